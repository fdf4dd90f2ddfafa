"""Malformed option files and command lines: always one message and exit status 2, never a traceback, a hang or a file.

The malformed ones are mutations of every valid option file in ``options/``, drawn by Hypothesis.
"""

import contextlib
import copy
import io
import math
import os
import runpy
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atbsn.options import load_options
from atbsn.options.load import read_options
from atbsn.options.schema import Options
from atbsn.utils.dist import start as dist_start
from atbsn.utils.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted(path for path in (REPOSITORY / "options").rglob("*.yml") if path.parent.name != "base")
VALID = {path.name: read_options(path) for path in FILES}
PATIENCE = 10.0
"""Seconds that no input may take."""
TALLY: Counter[str] = Counter()

COMMANDS = ("train.py", "valid.py", "test.py")
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


def walk(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of everything in nested dictionaries and lists."""
    yield path
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(item, (*path, key))


def at(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


def load(path: Path, overrides: list[str], kind: str) -> None:
    """Options, or one message that is fit to be read; in time, and without leaving anything."""
    before, start = sorted(path.parent.iterdir()), time.perf_counter()
    try:
        options = load_options(str(path), overrides)
    except UserError as error:
        message = str(error)
        assert message.strip() and "Traceback" not in message and len(message) < 10_000
        TALLY[f"{kind}: refused"] += 1
    else:
        assert isinstance(options, Options)
        TALLY[f"{kind}: valid"] += 1
    assert time.perf_counter() - start < PATIENCE
    assert sorted(path.parent.iterdir()) == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder to be in; the counts of all mutations are printed when it is left."""
    folder, old = tmp_path_factory.mktemp("fuzz"), Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(old)
    print(f"\nfuzz: {sum(TALLY.values())} inputs: {dict(sorted(TALLY.items()))}")


def runs(default: int):
    """So many examples, always the same ones; ``FUZZ`` multiplies them and draws others."""
    factor = int(os.environ.get("FUZZ", "1"))
    return settings(
        max_examples=default * factor, deadline=None, database=None, derandomize=factor == 1,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@runs(250)
@given(case=structures())
def test_changed_entries(folder, case):
    name, options = case
    path = folder / "case" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    load(path, [], "entries")


@runs(250)
@given(case=texts())
def test_changed_texts(folder, case):
    name, data = case
    path = folder / "case" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    load(path, [], "texts")


@runs(150)
@given(name=st.sampled_from(sorted(VALID)), overrides=assignments())
def test_changed_assignments(folder, name, overrides):
    path = folder / "case" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(VALID[name], sort_keys=False))
    load(path, overrides, "--set")


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
def test_changed_command_lines(folder, script, arguments):
    status, output = run(script, arguments)
    assert status in (0, 2), (script, arguments, output)
    assert "Traceback" not in output and list(folder.glob("*")) in ([], [folder / "case"]), output
    TALLY[f"command line: {'refused' if status else 'valid'}"] += 1


def run(script: str, arguments: list[str]) -> tuple[int, str]:
    """The exit status of a command that ends before it would compute, and what it says."""
    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [script, *arguments]),
        mock.patch("atbsn.utils.dist.start", start_and_leave),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as ending,
    ):
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    return ending.value.code or 0, said.getvalue()


def start_and_leave(*arguments: Any) -> None:
    """In place of ``dist.start``, which the commands call when their options are checked."""
    dist_start(*arguments)
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("train.py", ["-opt", "broken.yml"], "broken.yml, line 3, column 1: not valid YAML"),
        ("valid.py", ["-opt", "nosuch.yml", "--set", "a=b"], "nosuch.yml: no such option file"),
        ("test.py", ["-opt", "quickstart.yml", "--set", "network.widht=3", "num_gpu=-1"], "2 faults"),
    ],
)
def test_as_a_process(folder, script, arguments, said):
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
