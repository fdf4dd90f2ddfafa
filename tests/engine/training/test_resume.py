"""A training that is killed and resumed leaves what an uninterrupted one leaves, to the bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import At, Run, assert_equal, assert_same, die_alone, scalars, tiny

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights

TEACHER = {"type": "ATBSN", "width": 2}
METHODS: dict[str, dict[str, Any]] = {
    "BSNModel": {},
    "DistillModel": {
        "network": {"type": "StudentC", "width": 2},
        "model": {"type": "DistillModel", "teacher": "../teacher.pth", "ks": [0, 1, 3]},
    },
    "CBSNModel": {
        "network": {"type": "CBSN", "width": 2},
        "model": {"type": "CBSNModel"},
        "datasets": {"patch_size": 40},
    },
}
"""Changes of the options for each training method."""

# 12 iterations, of which 4, 8, 12 are saved, 5, 10, 12 logged and 6, 12 validated.
EVERYWHERE = [
    At("step", 3),  # before the first checkpoint
    At("half net_4.pth"),
    At("whole net_4.pth"),
    At("half net_latest.pth"),
    At("half 4.state"),
    At("prune"),
    At("step", 1),
    At("validate", 1),
    At("row", 1),  # between the network and its average
    At("half metrics.csv", 2),
    At("half net_best.pth"),
    At("half 6.png"),
    At("whole net_best.pth"),
    At("whole net_8.pth"),
    At("half 8.state"),
    At("whole 8.state"),
    At("step", 2),
    At("half 12.state"),
    At("whole 12.state"),  # before the last validation
    At("validate", 2),
    At("row", 2),
    At("half net_12.pth"),
    At("half 12.state"),  # the second time, after the last validation
]
AFTER_EACH_ITERATION = (1, 2, 3, 4, 5, 2, 3, 4, 5, 2, 3, 4)
"""Steps until the kill, from 0 to begin with, then from the states of 4 and of 8."""
SOME = [At("step", 3), At("half 4.state"), At("step", 3), At("validate", 2), At("half net_8.pth"), At("row", 3)]


def options_of(folder: Path, method: str, workers: int) -> dict[str, Any]:
    changes = {name: dict(change) for name, change in METHODS[method].items()}
    loader = {"num_worker_per_gpu": workers} | changes.pop("datasets", {})
    options = tiny(folder, **changes, logger={"keep_last": 2})
    options["datasets"]["train"] |= loader
    if not (folder / "teacher.pth").exists():
        torch.manual_seed(0)
        save_weights(folder / "teacher.pth", build_arch(TEACHER).state_dict(), {"network": TEACHER})
    return options


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A function that gives the uninterrupted run of a method, trained once, and a new run to disturb."""
    folder = tmp_path_factory.mktemp("resume")
    references = {}

    def pair(method: str, workers: int, processes: int) -> tuple[Run, Run]:
        options = options_of(folder, method, workers)
        key = method, workers, processes
        if key not in references:
            references[key] = Run(folder / "-".join(map(str, key)), options, processes)
            outcome = references[key].train()
            assert outcome.statuses == [0] * processes, outcome.output
        number = len(list(folder.glob("disturbed*")))
        return references[key], Run(folder / f"disturbed{number}", options, processes)

    return pair


def test_killed_everywhere(undisturbed: Callable[..., Any]) -> None:
    reference, run = undisturbed("BSNModel", 0, 1)
    assert_same(run.killed(*EVERYWHERE), reference)
    assert not list(run.experiment.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("method", "workers", "processes"),
    [("DistillModel", 0, 1), ("CBSNModel", 2, 1), ("CBSNModel", 0, 2), ("BSNModel", 2, 2)],
)
def test_killed_here_and_there(undisturbed: Callable[..., Any], method: str, workers: int, processes: int) -> None:
    reference, run = undisturbed(method, workers, processes)
    assert_same(run.killed(*SOME), reference)


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", METHODS)
def test_killed_everywhere_in_every_way(
    undisturbed: Callable[..., Any], method: str, workers: int, processes: int
) -> None:
    reference, run = undisturbed(method, workers, processes)
    assert_same(run.killed(*EVERYWHERE), reference)
    _, run = undisturbed(method, workers, processes)
    assert_same(run.killed(*(At("step", count, rank=processes - 1) for count in AFTER_EACH_ITERATION)), reference)


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_killed_after_every_step(undisturbed: Callable[..., Any], method: str) -> None:
    """With a checkpoint at each iteration, which validation and log then have to agree with."""
    reference, run = undisturbed(method, 0, 1)
    run.options["logger"] |= {"save_checkpoint_freq": 1}
    run.killed(*[At("step", 2)] * 10)
    ours, theirs = (torch.load(r.experiment / "models" / "net_latest.pth") for r in (run, reference))
    assert_equal(ours, theirs, "net_latest.pth")
    assert (run.experiment / "metrics.csv").read_bytes() == (reference.experiment / "metrics.csv").read_bytes()
    assert scalars(run.folder / "tb_logger" / "tiny") == scalars(reference.folder / "tb_logger" / "tiny")


@pytest.mark.parametrize(
    "train",
    [
        {"optim": {"type": "SGD", "lr": 1e-4}, "scheduler": {"type": "Constant"}, "clip_grad_norm": 1.0},
        {"optim": {"type": "SGD", "lr": 1e-4, "momentum": 0.9}, "scheduler": {"type": "Step", "step_size": 3}},
        {"optim": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1}, "accum_iter": 2, "skip_nonfinite": 1},
        {"scheduler": {"type": "MultiStep", "milestones": [3, 7]}, "ema_decay": 0, "precision": "bf16"},
    ],
)
def test_other_settings_resume_too(tmp_path: Path, train: dict[str, Any]) -> None:
    reference, run = (Run(tmp_path / name, tiny(tmp_path, train=train)) for name in ("whole", "killed"))
    assert reference.train().status == 0
    assert_same(run.killed(At("step", 6), At("step", 5)), reference)


def test_workers_change_nothing(undisturbed: Callable[..., Any]) -> None:
    (none, _), (two, _) = undisturbed("BSNModel", 0, 1), undisturbed("BSNModel", 2, 1)
    ours, theirs = (torch.load(run.experiment / "models" / "net_12.pth")["params"] for run in (none, two))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_loaders_of_a_killed_training_do_not_hold_its_name(undisturbed: Callable[..., Any]) -> None:
    reference, run = undisturbed("BSNModel", 2, 1)
    assert run.train(at=At("step", 5), act=die_alone).status == -9
    assert run.train("--auto_resume").status == 0
    assert_same(run, reference)


def test_resuming_a_finished_run_says_so(undisturbed: Callable[..., Any]) -> None:
    reference, run = undisturbed("BSNModel", 0, 1)
    run.killed()
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    outcome = run.train("--auto_resume")
    assert outcome.status == 0 and "finished" in outcome.output and "12.state" in outcome.output
    del before[run.folder / "options.yml"]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert_same(run, reference)


def test_a_named_state_is_continued_in_its_own_folder(undisturbed: Callable[..., Any]) -> None:
    reference, run = undisturbed("BSNModel", 0, 1)
    run.killed()
    run.options["path"] = {"resume_state": "experiments/tiny/training_states/8.state"}
    outcome = run.train()
    assert outcome.status == 0 and "12.state" in outcome.output and "set_aside" in outcome.output
    (run.experiment / "training_states" / "12.state.set_aside").unlink()
    assert_same(run, reference)


def test_a_state_of_another_run_starts_a_folder_of_its_own(undisturbed: Callable[..., Any]) -> None:
    reference, run = undisturbed("BSNModel", 0, 1)
    run.options["path"] = {"resume_state": str(reference.experiment / "training_states" / "8.state")}
    assert run.train().status == 0
    ours, theirs = (torch.load(r.experiment / "training_states" / "12.state") for r in (run, reference))
    assert all(torch.equal(value, theirs["params"][name]) for name, value in ours["params"].items())
    # The requeued command names the old state still; what has been done since counts.
    outcome = run.train("--auto_resume")
    assert outcome.status == 0 and "finished" in outcome.output


def test_settings_come_from_the_options_and_changes_are_told(undisturbed: Callable[..., Any]) -> None:
    """What was learnt is the state's; the learning rate and the like are what the options say."""
    _, run = undisturbed("BSNModel", 0, 1)
    assert run.train(at=At("whole 4.state")).status == -9
    run.options["train"] = run.options["train"] | {"total_iter": 20, "optim": {"type": "Adam", "lr": 1e-3, "eps": 1e-7}}
    outcome = run.train("--auto_resume")
    assert outcome.status == 0, outcome.output
    assert "train.total_iter is 20, was 12" in outcome.output and "train.optim.lr is 0.001, was 0.003" in outcome.output
    assert "iter 5/20: loss" in outcome.output and "lr 0.000854" in outcome.output  # of the new half cosine
    state = torch.load(run.experiment / "training_states" / "20.state", weights_only=True)
    assert state["optimizer"]["param_groups"][0]["eps"] == 1e-7


def test_another_set_of_pictures_is_told(undisturbed: Callable[..., Any]) -> None:
    _, run = undisturbed("BSNModel", 0, 1)
    assert run.train(at=At("whole 4.state")).status == -9
    run.options["datasets"]["train"]["dataroot"] = run.options["datasets"]["val"]["dataroot"]
    outcome = run.train("--auto_resume")
    assert outcome.status == 0 and "datasets.train.pictures is '2 (" in outcome.output


@pytest.mark.parametrize(
    ("section", "change", "said"),
    [
        ("network", {"width": 4}, "network.width is 4, was 2"),
        ("network", {"mean": 127.5}, "network.mean is 127.5, was 0.0"),
        ("train", {"ema_decay": 0}, "train.ema_decay is 0.0, was 0.9"),
        ("train", {"optim": {"type": "SGD", "lr": 1e-3}}, "train.optim.type is 'SGD', was 'Adam'"),
        ("manual_seed", 4, "manual_seed is 4, was 3"),
    ],
)
def test_what_a_state_cannot_continue_is_refused_before_anything_is_written(
    undisturbed: Callable[..., Any], section: str, change: Any, said: str
) -> None:
    reference, run = undisturbed("BSNModel", 0, 1)
    state = reference.experiment / "training_states" / "8.state"
    run.options["path"] = {"resume_state": str(state)}
    run.options[section] = run.options[section] | change if isinstance(change, dict) else change
    outcome = run.train()
    assert outcome.status == 2 and said in outcome.output and "Traceback" not in outcome.output, outcome.output
    assert not run.experiment.exists()


def test_a_student_keeps_its_teacher(undisturbed: Callable[..., Any], tmp_path: Path) -> None:
    """Who it is, not where its file lies."""
    _, run = undisturbed("DistillModel", 0, 1)
    assert run.train(at=At("whole 4.state")).status == -9
    state = run.experiment / "training_states" / "4.state"
    for name, seed in (("same.pth", 0), ("other.pth", 1)):
        torch.manual_seed(seed)
        save_weights(tmp_path / name, build_arch(TEACHER).state_dict(), {"network": TEACHER})
    before = {path: path.stat().st_mtime_ns for path in run.experiment.rglob("*")}
    run.options["model"] = run.options["model"] | {"teacher": str(tmp_path / "other.pth")}
    outcome = run.train("--auto_resume")
    assert outcome.status == 2 and "Traceback" not in outcome.output, outcome.output
    assert f"{state.relative_to(run.folder)}: made with other options: model.frozen_sha256 is ['" in outcome.output
    assert "; model.teacher.sha256 is '" in outcome.output
    assert {path: path.stat().st_mtime_ns for path in run.experiment.rglob("*")} == before
    run.options["model"] = run.options["model"] | {"teacher": str(tmp_path / "same.pth")}
    outcome = run.train("--auto_resume")
    assert outcome.status == 0 and "model.teacher.file is '" in outcome.output, outcome.output


def test_the_torn_newest_state_is_named_and_skipped(undisturbed: Callable[..., Any]) -> None:
    reference, run = undisturbed("BSNModel", 0, 1)
    run.killed()
    newest = run.experiment / "training_states" / "12.state"
    newest.write_bytes(newest.read_bytes()[:-1000])
    outcome = run.train("--auto_resume")
    assert outcome.status == 0 and "skipped: " in outcome.output and "8.state" in outcome.output
    (run.experiment / "training_states" / "12.state.set_aside").unlink()
    assert_same(run, reference)


def test_no_readable_state_at_all_is_no_reason_to_begin_again(undisturbed: Callable[..., Any]) -> None:
    _, run = undisturbed("BSNModel", 0, 1)
    run.killed()
    for path in (run.experiment / "training_states").iterdir():
        path.write_bytes(b"")
    outcome = run.train("--auto_resume")
    assert outcome.status == 2 and "none of the 2 training states can be read" in outcome.output
    assert not list(run.folder.glob("experiments/*_archived_*"))
