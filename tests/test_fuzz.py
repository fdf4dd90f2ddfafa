"""Malformed option files, command lines and weight files: always one message and exit status 2, never a traceback,
a hang or a file.

They are mutations of valid ones, drawn by Hypothesis. Option files that are valid nevertheless, commands build
everything of, and leave before they would compute.
"""

import contextlib
import copy
import io
import math
import os
import runpy
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from atbsn.app import main
from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.options import load_options
from atbsn.options.load import read_options
from atbsn.options.schema import Options, TrainLoader
from atbsn.registry import ARCHS, MODELS
from atbsn.utils.dist import start as dist_start
from atbsn.utils.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted(path for path in (REPOSITORY / "options").rglob("*.yml") if path.parent.name in ("train", "test"))
VALID = {path.name: read_options(path) for path in FILES}
PATIENCE = 120.0
"""Seconds of a core that no input may take: far more than any does, so only a loop without end reaches it."""
TALLY: Counter[str] = Counter()

COMMANDS = ("train.py", "valid.py", "test.py")
MAX_WIDTH = 256
"""Wider networks are not built here, for the memory they take."""
NUMBERS: list[float] = [0, 1, 2, 3, 4, 5, 9, 11, 32, 64, 96, 160, 2**31 - 1, 2**31 + 1, 2**63 - 1, 10**30 + 1]
NUMBERS += [-1, 0.0, 0.5, 1.0, 1.5, 3e-4, 5e-324, 1e300]
WORDS = [*ARCHS, *MODELS, "psnr", "ssim"]
WORDS += ["multi_teacher", "mean_teacher", "region", "auto", "none", "fp32", "bf16", "fp16", "Adam", "SGD", "Constant"]
WORDS += ["NoisyFolder", "PairedFolder", "SIDDMedium", "SIDDValidation", "DND", "PolyU", "SimulatedCamera", "lmdb"]
WORDS += [".", "noisy", "pairs", "noisy/0.png", "atbsn.pth", "studentc.pth", "nosuch", "train", "val"]
PLAUSIBLE = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(WORDS),
    st.lists(st.sampled_from(NUMBERS), max_size=3), st.builds(lambda name: {"type": name}, st.sampled_from(WORDS)),
)  # fmt: skip
"""Values that are right somewhere."""
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30]),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e308, 5e-324, -0.0]),
    st.text(max_size=8),
    st.sampled_from(["", "~", "3e-4", "8", "true", "\0", "\ud800", "../..", "x" * 10**5, "ATBSN", "{}", "a.b=c", "❄"]),
    st.lists(st.integers(), max_size=3),
    st.builds(lambda: [[[]]]),
    st.builds(dict),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.builds(lambda: {"type": "ATBSN"}),
    st.builds(lambda: {"type": ["ATBSN"]}),
)
METADATA: dict[str, Any] = {
    "network": {"type": "ATBSN", "width": 2, "mean": 0.0}, "k": 3, "k_train": 9, "patch_size": 32, "batch_size": 8,
    "iteration": 100, "model": "BSNModel", "dataset": "NoisyFolder", "seed": 1,
}  # fmt: skip
TEXT_JUNK = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["\t", "\n", "{", "}", "[", "]", ":", ": ", "- ", "&a ", "*a", "<<: ", "? ", "!!", "|", "'", '"', "%"]
    ),
    st.sampled_from(["!!int ''", "!!float x", "!!bool x", "!!binary x", "!!set {a}", "!!timestamp 2024-01-01", "!x y"]),
    st.sampled_from(
        ["!!python/object/apply:os.abort []", "\x00", "\ufeff", "--- \n", "...\n", "base: .", "0x", "1_0", "1:2"]
    ),
    st.sampled_from(
        [
            "? [a, b] : c\n",
            "? {a: b} : c\n",
            "null: 1\n",
            "1: 2\n",
            "true: 1\n",
            "a: &a [*a]\n",
            "9" * 5000,
            "0x" + "f" * 5000,
            "-",
            "=",
            "!!null 1",
        ]
    ),
)
PATHS = [
    "",
    ".",
    "..",
    "nosuch",
    "noisy",
    "noisy/0.png",
    "pairs",
    "out",
    "a/b.lmdb",
    "\0",
    "-",
    "x" * 300,
    "arrays.npz",
]
PATHS += ["tiny.yml", "atbsn.pth", "studentc.pth", "damaged.safetensors", "net.onnx", "net.pth", "net.safetensors"]
VALUES = ["0", "1", "-1", "2", "3", "64", "9" * 30, "1e400", "nan", "inf", "x", "\u2742", "1.5", "--", "--nosuch"]
SCRIPTS = {
    "compare": ["-opt", "tiny.yml", "--k", "--mean", "--nlm", "--bm3d", "--output", "--set", "name=a/b"],
    "convert": ["atbsn.pth", "studenta.pth", "nosuch.ckpt", "net.pth", "net.safetensors"],
    "export": ["studentb.pth", "cbsn.pth", "net.onnx"],
    "prepare": [
        "folder", "sidd", "dnd", "check", "speed", "polyu", "paired", "prepared",
        "--size", "--stride", "--codec", "png", "raw", "--whole", "--workers",
    ],
    "options": ["list", "show", "copy", "apbsn.yml", "polyu.yml", "--set", "name=x", "--folder", "--as_written"],
    "scripts/benchmark.py": [
        "--device", "cpu", "cuda", "--full", "--only", "step", "GAN", "--rounds", "--precision", "bf16", "--width",
        "--cbsn_width", "--output",
    ],
}  # fmt: skip
"""Commands and scripts, and what is said to them beside PATHS and VALUES."""
STARTS = {
    "compare": ["-opt", "tiny.yml", "studentc.pth"],
    "convert": ["atbsn.pth", "net.safetensors"],
    "export": ["studentc.pth", "net.onnx"],
    "prepare": ["folder", "noisy", "out.lmdb"],
    "options": ["copy", "quickstart.yml"],
    "scripts/benchmark.py": ["--only", "student"],
}
"""What is right."""


@st.composite
def structures(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A valid file with one to three entries renamed, removed, added or given another value."""
    name = draw(st.sampled_from(sorted(VALID)))
    options = copy.deepcopy(VALID[name])
    for _ in range(draw(st.integers(1, 3))):
        parents = [path for path in walk(options) if isinstance(at(options, path), (dict, list))]
        parent = at(options, draw(st.sampled_from(parents)))
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        action = draw(st.sampled_from(["replace", "replace", "remove", "rename", "add"]))
        if action == "add" or not keys:
            if isinstance(parent, dict):
                parent[draw(st.one_of(st.text(max_size=4), st.sampled_from(["type", "lr", "k", "base", "name"])))] = (
                    draw(JUNK)
                )
            else:
                parent.append(draw(JUNK))
            continue
        key = draw(st.sampled_from(keys))
        if action == "replace":
            parent[key] = draw(JUNK)
        elif action == "remove":
            del parent[key]
        elif isinstance(parent, dict):
            position = draw(st.integers(0, len(str(key))))
            parent[f"{str(key)[:position]}x{str(key)[position + 1 :]}"] = parent.pop(key)
    return name, options


def walk(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything in nested dictionaries and lists."""
    yield path
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(item, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


SEEN = defaultdict(list)
"""The values that a key has in any file."""
for path, value in ((path, at(options, path)) for options in VALID.values() for path in walk(options) if path):
    SEEN[path[-1]].append(value)


@st.composite
def plausible(draw: st.DrawFn) -> dict[str, Any]:
    """A valid file whose networks are small and whose files are there, with one to three values changed."""
    options = copy.deepcopy(VALID[draw(st.sampled_from(sorted(VALID)))])
    options |= {"num_gpu": 0, "manual_seed": 0}
    for name, entry in options.get("datasets", {}).items():
        paths = {"type": "PairedFolder", "dataroot": "pairs"} if name[:3] == "val" else {"type": "NoisyFolder"}
        loader = {key: value for key, value in entry.items() if key in TrainLoader.model_fields}
        options["datasets"][name] = {"dataroot": "noisy", **paths, **loader}
    if "network" in options:
        options["network"] |= ARCHS.get(options["network"]["type"]).example()
    if "teacher" in options.get("model", {}):
        options["model"]["teacher"] = "atbsn.pth"
    if "pretrain_network" in options.get("path", {}):
        name = options.get("network", {"type": "ATBSN"})["type"]
        options["path"]["pretrain_network"] = f"{name.lower()}.pth"
    kept = (("num_gpu",), ("path", "root"))
    places = [path for path in walk(options) if path not in kept and not isinstance(at(options, path), dict)]
    for path in draw(st.lists(st.sampled_from(places), min_size=1, max_size=3, unique=True)):
        with contextlib.suppress(KeyError, IndexError, TypeError):  # another change has taken it away
            parent, key = at(options, path[:-1]), path[-1]
            numbers = st.sampled_from(NUMBERS)
            same = {bool: st.booleans(), int: numbers, float: numbers}.get(type(parent[key]), st.sampled_from(WORDS))
            kinds = [PLAUSIBLE, same, same, *[st.sampled_from(SEEN[key])] * 3]
            parent[key] = draw(kinds[draw(st.integers(0, 5))])
    return options


@st.composite
def metadata(draw: st.DrawFn) -> dict[str, Any]:
    """What a weight file says about itself, with one to three entries changed, taken away or added."""
    told = copy.deepcopy(METADATA)
    for _ in range(draw(st.integers(1, 3))):
        parent = told
        key = draw(st.sampled_from([*METADATA, "network", "network", "k", "patch_size", "nosuch"]))
        if key == "network" and isinstance(told.get(key), dict) and draw(st.booleans()):
            parent, key = told[key], draw(st.sampled_from(["type", "width", "mean", "nosuch"]))
        parent[key] = draw(st.one_of(JUNK, PLAUSIBLE))
        if draw(st.integers(0, 4)) == 0:
            del parent[key]
    return told


@st.composite
def script_arguments(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A script, and none to three right arguments, and then some that may be wrong."""
    script = draw(st.sampled_from(sorted(SCRIPTS)))
    words = [st.sampled_from(SCRIPTS[script])] * 2 + [st.sampled_from(PATHS), st.sampled_from(VALUES)]
    return script, STARTS[script][: draw(st.integers(0, 3))] + draw(st.lists(st.one_of(*words), max_size=4))


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, bytes]:
    """The text of a valid file with something inserted, cut out, doubled or garbled."""
    name = draw(st.sampled_from(sorted(VALID)))
    text = yaml.safe_dump(VALID[name], sort_keys=False, default_flow_style=draw(st.sampled_from([None, True, False])))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 40)))
        action = draw(st.sampled_from(["insert", "insert", "cut", "double", "truncate", "indent"]))
        if action == "insert":
            text = text[:start] + draw(TEXT_JUNK) + text[start:]
        elif action == "cut":
            text = text[:start] + text[stop:]
        elif action == "double":
            text = text[:stop] + text[start:]
        elif action == "truncate":
            text = text[:start]
        else:
            text = text[:start] + text[start:].replace("\n", "\n ", 1)
    data = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        data = data[: len(data) // 2] + draw(st.binary(max_size=4)) + data[len(data) // 2 :]
    return name, data


@st.composite
def assignments(draw: st.DrawFn) -> list[str]:
    """One to three arguments of ``--set``."""
    options = VALID[draw(st.sampled_from(sorted(VALID)))]
    known = [".".join(map(str, path)) for path in walk(options) if path]
    key = st.one_of(
        st.sampled_from(known), st.text(max_size=6), st.sampled_from(["", ".", "a.", ".a", "train", "base"])
    )
    value = st.one_of(JUNK.map(str), TEXT_JUNK, st.sampled_from(["", "=", "[", "{a: 1}", "~"]))
    separator = st.sampled_from(["=", "=", "=", "", "==", ":", " = "])
    return [draw(key) + draw(separator) + draw(value) for _ in range(draw(st.integers(1, 3)))]


def load(path: Path, overrides: list[str], kind: str) -> None:
    """Options, or one message that is fit to be read; in time, and without leaving anything."""
    before, start = everything(Path.cwd()), time.process_time()
    try:
        options = load_options(str(path), overrides)
    except UserError as error:
        message = str(error)
        assert message.strip() and "Traceback" not in message and len(message) < 10_000
        TALLY[f"{kind}: refused"] += 1
    else:
        assert isinstance(options, Options)
        TALLY[f"{kind}: {build(path, overrides, options)}"] += 1
    assert time.process_time() - start < PATIENCE
    assert everything(Path.cwd()) == before


def build(path: Path, overrides: list[str], options: Options) -> str:
    """Let the command that the option file is for build everything it needs; what became of it."""
    if options.network is not None and options.network.get("width", 0) > MAX_WIDTH:
        return "not built"
    script = "train.py" if options.train else "valid.py" if options.dataset_names("val") else "test.py"
    status, output = run(script, ["-opt", str(path), *(["--set", *overrides] if overrides else [])], BUILT)
    assert status in (0, 2) and "Traceback" not in output, (script, output)
    return "refused while built" if status else "built"


def everything(folder: Path) -> list[Path]:
    """All files and folders, to see that none is added; but for locks, which nobody can remove safely."""
    return sorted(path for path in folder.rglob("*") if path.suffix != ".lock")


def run(script: str, arguments: list[str], stops: dict[str, Any]) -> tuple[int | str, str]:
    """The exit status of a command, which ends where it comes to one of ``stops``, and what it says."""
    said = io.StringIO()
    with contextlib.ExitStack() as stack:
        is_script = script.endswith(".py")
        stack.enter_context(
            mock.patch.object(sys, "argv", [*([script] if is_script else ["atbsn", script]), *arguments])
        )
        for name, replacement in stops.items():
            stack.enter_context(mock.patch(name, replacement))
        stack.enter_context(contextlib.redirect_stdout(said))
        stack.enter_context(contextlib.redirect_stderr(said))
        ending = stack.enter_context(pytest.raises(SystemExit))
        runpy.run_path(str(REPOSITORY / script), run_name="__main__") if is_script else main()
    return ending.value.code or 0, said.getvalue()


def leave(*arguments: Any, **options: Any) -> None:
    raise SystemExit(0)


def start_and_leave(*arguments: Any) -> None:
    """In place of ``dist.start``, which the commands call when their options are checked."""
    dist_start(*arguments)
    leave()


CHECKED = {"atbsn.utils.dist.start": start_and_leave}
BUILT = {
    "atbsn.app.commands.train.Experiment": mock.MagicMock(),
    "atbsn.engine.training.setup.RunLogger": leave,
    "atbsn.app.commands.valid.validate_sets": leave,
    "atbsn.app.commands.test.run": leave,
    "atbsn.app.commands.test.open_record": leave,
}
"""Where train.py, valid.py and test.py have built all, and would begin to write."""
COMPUTED = {
    "atbsn.app.commands.compare.measure_candidates": leave,
    "measurement.measure": leave,
    "measurement.peak_tflops": lambda *arguments: 1.0,
    "time.perf_counter": leave,  # before prepare speed measures for seconds
    "torch.onnx.export": leave,
}
"""Where scripts would compute for long."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder to be in; the counts of all mutations are printed when it is left."""
    folder, old = tmp_path_factory.mktemp("fuzz") / "some" / "folders" / "down", Path.cwd()  # for paths such as ../..
    folder.mkdir(parents=True)
    os.chdir(folder)
    yield folder
    os.chdir(old)
    print(f"\nfuzz: {sum(TALLY.values())} inputs: {dict(sorted(TALLY.items()))}")


def runs(default: int) -> settings:
    """So many examples, always the same ones; ``FUZZ`` multiplies them and draws others."""
    factor = int(os.environ.get("FUZZ", "1"))
    return settings(
        max_examples=default * factor, deadline=None, database=None, derandomize=factor == 1,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@runs(250)
@given(case=structures())
def test_changed_entries(folder: Path, case: Any) -> None:
    name, options = case
    path = folder / "case" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    load(path, [], "entries")


@runs(250)
@given(case=texts())
def test_changed_texts(folder: Path, case: Any) -> None:
    name, data = case
    path = folder / "case" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    load(path, [], "texts")


@runs(150)
@given(name=st.sampled_from(sorted(VALID)), overrides=assignments())
def test_changed_assignments(folder: Path, name: Any, overrides: Any) -> None:
    path = folder / "case" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(VALID[name], sort_keys=False))
    load(path, overrides, "--set")


@pytest.fixture(scope="module")
def inputs(folder: Path) -> Iterator[Path]:
    """A folder to be in with small pictures, weights and option files; afterwards it is as it was."""
    made = folder.parent / "inputs"
    for index in range(2):
        for name in ("noisy", "pairs/Noisy", "pairs/GT"):
            (made / name).mkdir(parents=True, exist_ok=True)
            picture = np.full((288, 272, 3), 99 + index, np.uint8)
            cv2.imwrite(str(made / name / f"{index}.png"), picture)
    cv2.imwrite(str(made / "small.png"), picture[:40, :48])
    for kind in ARCHS:
        net = build_arch({"type": kind, **ARCHS.get(kind).example()})
        save_weights(made / f"{kind.lower()}.pth", net.state_dict(), {"network": net.options})
    (made / "damaged.safetensors").write_bytes(b"\x08" + bytes(15))
    np.savez(made / "arrays.npz", conv0=np.zeros(3))
    (made / "tiny.yml").write_text(yaml.safe_dump(TINY))
    os.chdir(made)
    yield made
    os.chdir(folder)
    shutil.rmtree(made)


TINY = {
    "name": "tiny",
    "num_gpu": 0,
    "path": {"pretrain_network": "told.pth"},
    "datasets": {"val": {"type": "PairedFolder", "dataroot": "pairs"}},
}


@runs(120)
@given(options=plausible())
def test_plausible_entries(inputs: Path, options: Any) -> None:
    path = inputs / "case.yml"
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    load(path, [], "plausible entries")


@runs(80)
@example(told=METADATA, suffix=".safetensors")
@example(told={**METADATA, "k": 2**63 - 1}, suffix=".pth")
@given(told=metadata(), suffix=st.sampled_from([".pth", ".safetensors"]))
def test_changed_metadata(inputs: Path, told: Any, suffix: Any) -> None:
    params = build_arch(METADATA["network"]).state_dict()
    weights = inputs / f"told{suffix}"
    save_weights(weights, params, told)
    before = everything(Path.cwd())
    arguments = ["-opt", "tiny.yml", "--input", "small.png", "--output", "clean"]
    status, output = run("test.py", [*arguments, "--set", f"path.pretrain_network={weights.name}"], {})
    assert status in (0, 2) and "Traceback" not in output, (told, output)
    made = set(everything(Path.cwd())) - set(before)
    record = {path for path in made if path.is_relative_to(inputs / "clean" / "manifest")}
    assert made - record == (set() if status else {inputs / "clean", inputs / "clean" / "small.png"})
    assert not status or not record
    shutil.rmtree(inputs / "clean", ignore_errors=True)
    TALLY[f"metadata: {'refused' if status else 'valid'}"] += 1


@runs(150)
@example(case=("prepare", ["folder", "noisy", "."]))
@given(case=script_arguments())
def test_changed_arguments_of_scripts(inputs: Path, case: Any) -> None:
    script, some = case
    own = inputs.parent / "own" / "copy"
    shutil.copytree(inputs, own)
    os.chdir(own)
    before, start = everything(own.parent), time.process_time()
    try:
        status, output = run(script, some, COMPUTED)
        assert status in (0, 2) and "Traceback" not in output, (some, output)
        assert status == 0 or everything(own.parent) == before, (some, output)
        assert time.process_time() - start < PATIENCE
    finally:
        os.chdir(inputs)
        shutil.rmtree(own.parent)
    TALLY[f"{script}: {'refused' if status else 'valid'}"] += 1


FLAGS = st.one_of(
    st.sampled_from(
        ["-opt", "--launcher", "--auto_resume", "--debug", "--set", "--local-rank", "--input", "--k", "--"]
    ),
    st.sampled_from(
        ["pytorch", "slurm", "none", "quickstart.yml", "", "-1", "x", "name=y", "--nosuch", "--sets", "-o"]
    ),
    st.sampled_from(
        ["test_folder.yml", "--local_rank=x", "--k=2", "train.total_iter=0", "name=a/b", "-opt=", "\u2744"]
    ),
)


@runs(150)
@given(script=st.sampled_from(COMMANDS), arguments=st.lists(FLAGS, max_size=6))
def test_changed_command_lines(folder: Path, script: Any, arguments: Any) -> None:
    status, output = run(script, arguments, CHECKED)
    assert status in (0, 2), (script, arguments, output)
    assert "Traceback" not in output and list(folder.glob("*")) in ([], [folder / "case"]), output
    TALLY[f"command line: {'refused' if status else 'valid'}"] += 1


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("train.py", ["-opt", "broken.yml"], "broken.yml, line 3, column 1: not valid YAML"),
        ("valid.py", ["-opt", "nosuch.yml", "--set", "a=b"], "nosuch.yml: no such option file"),
        ("test.py", ["-opt", "quickstart.yml", "--set", "network.widht=3", "num_gpu=-1"], "2 faults"),
    ],
)
def test_as_a_process(folder: Path, script: str, arguments: list[str], said: str) -> None:
    (folder / "case").mkdir(exist_ok=True)
    broken = folder / "case" / "broken.yml"
    broken.write_text("name: x\nnetwork: {type: ATBSN\n")
    before = sorted(folder.rglob("*"))
    process = subprocess.run(
        [sys.executable, str(REPOSITORY / script), *(str(broken) if a == "broken.yml" else a for a in arguments)],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    output = process.stdout + process.stderr
    assert process.returncode == 2 and said in output and "Traceback" not in output, output
    assert sorted(folder.rglob("*")) == before
    TALLY["process: refused"] += 1
