"""Trainings in processes of their own that are killed, signalled or starved at a chosen moment.

They are forked from a server that has imported everything, so each costs tenths of a second.
"""

import contextlib
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from tensorboard.summary.writer import event_file_writer

from atbsn.app.main import run
from atbsn.engine.training import checkpoint, experiment, setup, state, validation
from atbsn.engine.training.loggers import RunLogger
from atbsn.engine.training.trainer import Trainer
from atbsn.pictures import Picture, write, write_picture
from atbsn.registry import ARCHS, DATASETS, MODELS
from atbsn.utils import files

REPOSITORY = Path(__file__).resolve().parents[3]
WEIGHTS = sys.modules["atbsn.archs.weights"]
PATIENCE = 120

for registry in (ARCHS, DATASETS, MODELS):
    list(registry)  # imports what is registered


@dataclass
class At:
    """A moment: the ``count``-th time that ``point`` is reached, on process ``rank``.

    Points: ``build`` (before anything is built), ``step`` (after an optimizer step), ``validate`` (before a set is
    validated), ``row`` (after its row is in metrics.csv), ``prune`` (before old checkpoints are removed), ``half NAME``
    (half of a file is written), ``whole NAME`` (it has its name).
    """

    point: str
    count: int = 1
    rank: int = 0


@dataclass
class Outcome:
    """How the processes of a run ended, what they said, and whether a loader of theirs was still there."""

    statuses: list[int]
    output: str
    outlived: bool

    @property
    def status(self) -> int:
        (status,) = self.statuses
        return status


def die() -> None:
    """What the out-of-memory killer does, to the loaders as well."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def die_alone() -> None:
    """A SIGKILL that the loaders survive for a while."""
    os.kill(os.getpid(), signal.SIGKILL)


def terminate_alone() -> None:
    """A SIGTERM for this process only."""
    os.kill(os.getpid(), signal.SIGTERM)


def terminate() -> None:
    """What a scheduler does before it kills, and torchrun after it: every process of the job is told, twice."""
    _tell_all("TERM")
    _tell_all("TERM")


def interrupt() -> None:
    """Ctrl-C in a terminal."""
    _tell_all("INT")


def interrupt_twice() -> None:
    """An impatient Ctrl-C."""
    _tell_all("INT")
    time.sleep(2.1)
    _tell_all("INT")


def hang_up() -> None:
    """The terminal is closed."""
    _tell_all("HUP")


def _tell_all(name: str) -> None:
    """From outside: the loaders obey a SIGTERM of the training itself."""
    subprocess.run(["sh", "-c", f"kill -s {name} -- -{os.getpgid(0)}"], check=True, start_new_session=True)


def fill_disk() -> None:
    """From here on the disk of the current folder is full."""
    with Path("filler").open("wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def allow_small_files() -> None:
    """From here on no file of this process grows beyond what TensorBoard's events need, which a state exceeds."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def wait_for_go() -> None:
    """Stand still until there is a file ``go`` in the current folder."""
    Path("waiting").touch()
    while not Path("go").exists():
        time.sleep(0.02)


def ctrl_c_while_building() -> None:
    raise KeyboardInterrupt


@dataclass
class Run:
    """One name in one folder, trained again and again until it is done.

    Attributes:
        folder: where experiments/ and tb_logger/ are.
        options: the option file's content.
        processes: how many train together.
    """

    folder: Path
    options: dict[str, Any]
    processes: int = 1
    launches: int = field(default=0, init=False)

    @property
    def experiment(self) -> Path:
        return self.folder / "experiments" / self.options["name"]

    def train(
        self, *arguments: str, at: At | None = None, act: Callable[[], None] = die, **environment: str
    ) -> Outcome:
        """Run train.py, with ``act`` called ``at`` the moment given; the default act is SIGKILL."""
        self.folder.mkdir(exist_ok=True)
        self.launches += 1
        options = self.folder / "options.yml"
        options.write_text(yaml.safe_dump(self.options))
        arguments = ("-opt", str(options), *arguments)
        if self.processes > 1:
            arguments += ("--launcher", "pytorch")
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
            environment |= {"WORLD_SIZE": str(self.processes)}
        with TemporaryDirectory() as outputs:
            paths = [Path(outputs, str(rank)) for rank in range(self.processes)]
            started = [self._start(path, rank, arguments, environment, at, act) for rank, path in enumerate(paths)]
            for process in started:
                process.join(PATIENCE)
                if process.exitcode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise TimeoutError(paths[0].read_text())
            outlived = any(_is_group(process.pid) for process in started)
            output = "".join(path.read_text() for path in paths)
        return Outcome([process.exitcode for process in started], output, outlived)

    def killed(self, *moments: At) -> "Run":
        """Train with a SIGKILL at each moment in turn, resuming after it, and then to the end."""
        for moment in moments:
            outcome = self.train("--auto_resume", at=moment)
            assert -signal.SIGKILL in outcome.statuses, (moment, outcome)
            assert "Traceback" not in outcome.output, outcome.output
        outcome = self.train("--auto_resume")
        assert outcome.statuses == [0] * self.processes, outcome
        return self

    def _start(self, output: Path, rank: int, arguments: Sequence[str], environment: dict[str, str], *hook: Any) -> Any:
        own = environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if self.processes > 1 else {})
        called_with = (self.folder, output, self.launches, rank, list(arguments), own, *hook)
        process = _context().Process(target=_train, args=called_with)
        process.start()
        return process


def tiny(folder: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """Options of a training of a second, on pictures that are made in ``folder``."""
    rng = np.random.default_rng(0)
    for name in ("train/a", "train/sub/b", "train/c", "noisy/a", "noisy/b", "clean/a", "clean/b"):
        if not (folder / f"{name}.png").exists():
            write_picture(folder / f"{name}.png", Picture(rng.integers(0, 256, (40, 48, 3), np.uint8)))
    loader = {"patch_size": 32, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    val = {"type": "PairedFolder", "dataroot": str(folder / "noisy"), "dataroot_clean": str(folder / "clean")}
    options: dict[str, Any] = {
        "name": "tiny",
        "num_gpu": 0,
        "manual_seed": 3,
        "datasets": {"train": {"type": "NoisyFolder", "dataroot": str(folder / "train"), **loader}, "val": val},
        "network": {"type": "ATBSN", "width": 2},
        "model": {"type": "BSNModel"},
        "train": {"total_iter": 12, "optim": {"type": "Adam", "lr": 3e-3}, "ema_decay": 0.9},
        "val": {"val_freq": 6, "save_img": 1, "best_metric": "psnr", "metrics": {"psnr": {"type": "psnr"}}},
        "logger": {"print_freq": 5, "save_checkpoint_freq": 4},
    }
    for name, changes in sections.items():
        options[name] = {**options[name], **changes} if isinstance(changes, dict) else changes
    return options


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    curves = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    images = {
        tag: [(event.step, hash(event.encoded_image_string)) for event in events.Images(tag)]
        for tag in events.Tags()["images"]
    }
    return curves | images


def assert_same(run: Run, reference: Run) -> None:
    """Whatever two runs left is the same, to the bit."""
    for pattern in ("models/*", "training_states/*"):
        ours, theirs = (sorted(r.experiment.glob(pattern)) for r in (run, reference))
        assert [path.name for path in ours] == [path.name for path in theirs]
        for one, other in zip(ours, theirs, strict=True):
            saved, expected = (torch.load(path, weights_only=True) for path in (one, other))
            assert_equal(saved, expected, where=one.name)
    for pattern in ("metrics.csv", "visualization/*/*"):
        written, expected = (
            {path.relative_to(r.experiment): path.read_bytes() for path in r.experiment.glob(pattern)}
            for r in (run, reference)
        )
        assert written == expected
    curves, expected = (scalars(r.folder / "tb_logger" / "tiny") for r in (run, reference))
    assert curves == expected and curves


def assert_equal(one: Any, other: Any, where: str) -> None:
    """The same plain values and tensors, to the bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and one.shape == other.shape, where
        assert torch.equal(one.flatten().view(torch.uint8), other.flatten().view(torch.uint8)), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_equal(left, right, f"{where}.{index}")
    else:
        assert one == other, where


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_runs", "torch.utils.tensorboard", "torch._dynamo"])
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (REPOSITORY, Path(__file__).parent)))
    return context


def _train(
    folder: Path,
    output: Path,
    launch: int,
    rank: int,
    arguments: list[str],
    environment: dict[str, str],
    at: At | None,
    act: Callable[[], None],
) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    said = os.open(output, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    torch.set_num_threads(1)
    if "LOCK_PATIENCE" in os.environ:
        vars(experiment)["_PATIENCE"] = float(os.environ["LOCK_PATIENCE"])
    event_file_writer.time = SimpleNamespace(time=lambda: float(launch))  # files are read by the second in their names
    if at is not None and at.rank == rank:
        arm(at, act)
    sys.argv = [str(REPOSITORY / "train.py"), *arguments]
    sys.path.insert(0, str(REPOSITORY))
    run("train")


def arm(at: At, act: Callable[[], None]) -> None:
    """Have ``act`` called in this process when it reaches the moment."""
    left = at.count

    def is_due() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def reached() -> None:
        if is_due():
            act()

    word, _, name = at.point.partition(" ")
    if word == "build":
        _wrap(setup, "build_method", before=reached)
    elif word == "step":
        _wrap(Trainer, "step", after=reached)
    elif word == "validate":
        _wrap(validation, "evaluate", before=reached)
    elif word == "row":
        _wrap(RunLogger, "log_metrics", after=reached)
    elif word == "prune":
        _wrap(checkpoint, "prune", before=reached)
    elif word in ("half", "whole"):
        for module in (files, WEIGHTS, state, write):
            vars(module)["write_atomically"] = _interrupted(files.write_atomically, word, name, is_due, act)
    else:
        raise ValueError(at.point)


def _wrap(
    owner: Any, name: str, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None
) -> None:
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        before()
        result = original(*arguments, **named)
        after()
        return result

    setattr(owner, name, wrapped)


def _interrupted(
    original: Callable[..., None], word: str, name: str, is_due: Callable[[], bool], act: Callable[[], None]
) -> Callable[..., None]:
    def write_atomically(path: Path, write: Callable[[Any], object], *more: Any) -> None:
        def half(file: Any) -> None:
            write(file)
            file.flush()
            os.ftruncate(file.fileno(), file.tell() // 2)
            act()

        due = Path(path).name == name and is_due()
        original(path, half if due and word == "half" else write, *more)
        if due:
            act()

    return write_atomically


def _is_group(number: int) -> bool:
    """Whether any process is left of a group."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
