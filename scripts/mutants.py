"""Mutation testing: change a module in one place at a time, and see which changes its tests notice.

    python scripts/mutants.py atbsn/ops/luma.py                    # every place once
    python scripts/mutants.py atbsn/noise --sample 150 --seed 1    # 150 places of a folder, drawn at random
    python scripts/mutants.py atbsn/ops/luma.py tests/ops          # with these tests

cosmic-ray makes the changes: numbers, operators, comparisons, conditions, decorators, loops. Each change is tried in a
process of its own that is forked after torch is imported (so Linux and macOS only), and no file is changed. A module is
tried with the tests of its mirrored folder that name it, the fastest first. Tests that take longer than ``--longest``
seconds of a core are left out; it is time of a core, so that a busy machine leaves out no more than an idle one. Tests
that start other processes see the unchanged module there.
"""

import argparse
import ast
import difflib
import gc
import importlib
import json
import math
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

_PRELOADED = (
    "torch", "torchvision", "numpy", "scipy.ndimage", "scipy.io", "scipy.special", "skimage.metrics", "cv2", "h5py",
    "pydantic", "pytest", "hypothesis", "yaml", "PIL.Image", "safetensors.torch", "tqdm",
)  # fmt: skip
"""Modules that are imported before the forks; importing them takes seconds."""
_PYTEST = (
    "-o", "addopts=", "--import-mode=importlib", "-m", "not long and not gpu",
    "-x", "-q", "-p", "no:cacheprovider", "--assert=plain",
)  # fmt: skip
"""Arguments of pytest, in place of the usual ones: the first failure is enough, and nobody reads how it failed."""
_MORE_SECONDS = 10.0
"""Seconds of a core that the tests of a change may take in addition to three times their time without it. A change with
which they take longer, such as an endless loop, counts as noticed. Chosen by hand: more than importing the package
takes."""
_MAX_WAIT = 20.0
"""Most seconds that may pass for each second of a core that is allowed; a change with which more pass waits endlessly
and counts as noticed. Chosen by hand for machines where others use most of each core."""

_NO_TESTS = 5
"""Exit status of pytest where all tests of a file are deselected, such as those that need a GPU."""

Place = tuple[int, int]
"""Line, from 1, and column, from 0."""


@dataclass(frozen=True)
class Change:
    """One change of a module: the ``occurrence``-th place where ``operator`` of cosmic-ray can be applied."""

    path: Path
    operator: str
    occurrence: int
    place: Place

    def code(self) -> str:
        """The source of the changed module."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        changed = mutate_code(self.path.read_text(encoding="utf-8"), get_operator(self.operator)(), self.occurrence)
        assert changed is not None
        return str(changed)

    def difference(self) -> str:
        """The place of the change, and the lines before and after it."""
        old, new = self.path.read_text(encoding="utf-8").splitlines(), self.code().splitlines()
        lines = [line for line in difflib.unified_diff(old, new, n=0, lineterm="") if line[:1] in "+-"][2:]
        return f"{self.path.as_posix()}:{self.place[0]}\n" + "\n".join(f"    {line}" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="a module, or a folder of modules")
    parser.add_argument("tests", nargs="*", help="tests to run in place of the module's own")
    parser.add_argument("--sample", type=int, metavar="N", help="how many places are tried (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of places and changes (default 0)")
    parser.add_argument(
        "--longest",
        type=float,
        default=2.0,
        metavar="S",
        help="seconds of a core that the longest test takes (default 2)",
    )
    options = parser.parse_args()
    if not hasattr(os, "fork"):
        parser.error("this system cannot fork; run it on Linux or macOS")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # loading them takes longer than most tests
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    modules = [options.target] if options.target.suffix else sorted(options.target.rglob("*.py"))
    drawn = draw([change for module in modules for change in changes_of(module)], options.sample, options.seed)
    noticed = tried = 0
    for path in sorted(drawn):
        tests = options.tests or own_tests(path)
        seconds = passing(tests, options.longest)
        limit = _MORE_SECONDS + 3 * sum(seconds.values())
        survivors = [change for change in drawn[path] if not is_noticed(change, tests, seconds, limit)]
        tried, noticed = tried + len(drawn[path]), noticed + len(drawn[path]) - len(survivors)
        print(f"{path.as_posix()}: {len(drawn[path]) - len(survivors)} of {len(drawn[path])}", flush=True)
        for change in survivors:
            print(change.difference(), flush=True)
    print(f"{options.target.as_posix()}: {noticed} of {tried} changes are noticed, {noticed / max(1, tried):.0%}")


def changes_of(path: Path) -> Iterator[Change]:
    """Yield every change of the module ``path``, except those of annotations, which no test can notice."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    source = path.read_text(encoding="utf-8")
    tree, ignored = get_ast(source), list(_annotations(ast.parse(source)))
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments():  # it needs an argument, such as the name of a variable
            continue
        places = (start for node in ast_nodes(tree) for start, _ in kind().mutation_positions(node))
        for occurrence, place in enumerate(places):
            if not any(begin <= place < end for begin, end in ignored):
                yield Change(path, name, occurrence, place)


def _annotations(tree: ast.AST) -> Iterator[tuple[Place, Place]]:
    """Yield beginning and end of every annotation."""
    for node in ast.walk(tree):
        for said in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(said, ast.expr):
                yield (said.lineno, said.col_offset), (said.end_lineno or 0, said.end_col_offset or 0)


def draw(changes: Sequence[Change], number: int | None, seed: int) -> dict[Path, list[Change]]:
    """Draw one change at each of ``number`` places, or at all, so that a place with many changes counts once.

    Returns:
        The changes by module.
    """
    rng = random.Random(seed)
    by_place: dict[tuple[Path, Place], list[Change]] = defaultdict(list)
    for change in changes:
        by_place[change.path, change.place].append(change)
    places = sorted(by_place)
    chosen = places if number is None else sorted(rng.sample(places, min(number, len(places))))
    drawn: dict[Path, list[Change]] = defaultdict(list)
    for place in chosen:
        drawn[place[0]].append(rng.choice(by_place[place]))
    return drawn


def own_tests(path: Path) -> list[str]:
    """List the test files in the mirrored folder that name the module, or something public that it defines.

    If there are none, all test files of the folder are listed. A folder without a mirrored one, such as that of the
    picture formats, has its tests in the folder above.
    """
    mirrored = Path("tests", *path.parts[1:-1])
    folder = next(each for each in (mirrored, *mirrored.parents) if each.is_dir())
    defined = ast.parse(path.read_text(encoding="utf-8")).body
    names = [node.name for node in defined if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    names = [name for name in names if not name.startswith("_")] + [".".join(path.with_suffix("").parts)]
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
    files = sorted(folder.rglob("test_*.py"))
    found = [str(file) for file in files if pattern.search(file.read_text(encoding="utf-8"))]
    return found or [str(file) for file in files]


def passing(tests: Sequence[str], longest: float) -> Mapping[str, float]:
    """Measure how many seconds of a core each test of the files ``tests`` takes without a change, by its id.

    Tests that take more than ``longest`` are left out.

    Raises:
        SystemExit: a test fails, or there are no tests.
    """
    seconds = {test: spent for file in tests for test, spent in _seconds(file).items()}
    if not seconds:
        raise SystemExit(f"no tests in {' '.join(tests) or 'the mirrored folder'}")
    return {test: spent for test, spent in seconds.items() if spent <= longest}


@cache
def _seconds(file: str) -> Mapping[str, float]:
    """Measure how many seconds of a core each test of ``file`` takes; a file for several modules is timed once."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "seconds.json")
        status = _forked(lambda: _timed(file, written), limit=None)
        if status not in (0, _NO_TESTS):
            raise SystemExit(f"{file}: pytest ends with {status} without any change")
        seconds: dict[str, float] = json.loads(written.read_text())
    return seconds


def is_noticed(change: Change, tests: Sequence[str], seconds: Mapping[str, float], limit: float) -> bool:
    """Whether a test in ``tests`` that ``seconds`` names fails, or all need more than ``limit`` seconds of a core."""

    def run() -> int:
        import resource

        import pytest

        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(limit), math.ceil(limit) + 1))
        sys.meta_path.insert(0, _Changed(change))
        return int(pytest.main([*_PYTEST, *tests], plugins=[_Fastest(seconds)]))

    return _forked(run, _MAX_WAIT * limit) != 0


def _timed(file: str, written: Path) -> int:
    """Run the tests of ``file``, write the seconds of each to ``written``, and return pytest's exit status."""
    import pytest

    recorder = _Recorder()
    status = int(pytest.main([*_PYTEST, file], plugins=[recorder]))
    written.write_text(json.dumps(recorder.seconds))
    return status


def _forked(run: Any, limit: float | None) -> int | None:
    """Call ``run`` in a process of its own without output, and return its exit status.

    None if it was ended after ``limit`` seconds.
    """
    child = os.fork()
    if child == 0:
        os.setsid()  # so that processes that it starts can be ended with it
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        status = 1
        try:
            status = run()
        finally:
            os._exit(status)
    end = None if limit is None else time.monotonic() + limit
    while end is None or time.monotonic() < end:
        done, status = os.waitpid(child, 0 if end is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class _Changed(PathFinder):
    """Finds the changed module in place of the file."""

    def __init__(self, change: Change) -> None:
        self.change, self.name = change, ".".join(change.path.with_suffix("").parts).removesuffix(".__init__")

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # type: ignore[override]
        spec = PathFinder.find_spec(fullname, path, target) if fullname == self.name else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin, self.change.code())
        return spec


class _Loader(SourceFileLoader):
    """Loads the changed source in place of the file's."""

    def __init__(self, name: str, path: str, changed: str) -> None:
        super().__init__(name, path)
        self.changed = changed

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.changed, self.path, "exec", dont_inherit=True)


class _Recorder:
    """Records how many seconds of a core each test takes, with its fixtures and the processes that it waits for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.begin = 0.0

    def pytest_runtest_logstart(self) -> None:
        self.begin = sum(os.times()[:4])

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.seconds[nodeid] = sum(os.times()[:4]) - self.begin


class _Fastest:
    """Runs only the tests that are named, the fastest first."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items: "list[pytest.Item]") -> None:
        items[:] = sorted((item for item in items if item.nodeid in self.seconds), key=lambda i: self.seconds[i.nodeid])


if __name__ == "__main__":
    main()
