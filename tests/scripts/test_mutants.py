"""Which changes of a module its tests notice. cosmic-ray, which makes the changes, is an extra; the rest is ours."""

import ast
import os
from pathlib import Path

import pytest

import mutants
from mutants import Change, draw, is_noticed, own_tests, passing


class Rewritten(Change):
    """A change to a given text."""

    def code(self) -> str:
        return self.operator


@pytest.fixture
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one module, with a test that is fast and one that takes long."""
    (tmp_path / "little").mkdir()
    module = tmp_path / "little" / "sums.py"
    module.write_text("def twice(x: int) -> int:\n    return 2 * x\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_other.py").write_text("def test_other():\n    assert True\n")
    (tmp_path / "tests" / "test_sums.py").write_text(
        "import time\nfrom little.sums import twice\n\n"
        "def test_long():\n    end = time.process_time() + 0.5\n    while time.process_time() < end:\n        pass\n"
        "    assert twice(3) == 6\n\n"
        "def test_short():\n    assert twice(2) == 4\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return Path("little", "sums.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_change_is_noticed_by_a_test_that_fails_or_does_not_end(little: Path) -> None:
    tests = own_tests(little)
    assert tests == [str(Path("tests", "test_sums.py"))]
    seconds = passing(tests, longest=0.4)
    assert [test.rpartition("::")[2] for test in seconds] == ["test_short"]
    source = little.read_text()
    for code, noticed in (
        (source, False),
        (source.replace("2 * x", "x ** 2"), False),  # 2 is the one number that cannot tell
        (source.replace("2 * x", "3 * x"), True),
        ("no Python", True),
    ):
        assert is_noticed(Rewritten(little, code, 0, (1, 0)), tests, seconds, limit=20) == noticed, code
    assert is_noticed(Rewritten(little, source.replace("2 * x", "x ** 2"), 0, (1, 0)), tests, passing(tests, 9), 20)
    assert little.read_text() == source
    with pytest.raises(SystemExit, match="pytest ends with"):
        passing(["tests/none.py"], 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_what_does_not_end_counts_as_noticed(little: Path) -> None:
    change = Rewritten(little, "def twice(x):\n    while True:\n        pass\n", 0, (1, 0))
    assert is_noticed(change, own_tests(little), {"tests/test_sums.py::test_short": 0.1}, limit=3)


def test_a_place_counts_once_and_a_seed_chooses() -> None:
    changes = [Change(Path(name), "operator", number, (number // 3, 0)) for name in "ab" for number in range(12)]
    everywhere = draw(changes, None, 0)
    assert [len(everywhere[Path(name)]) for name in "ab"] == [4, 4]
    some = draw(changes, 5, 1)
    assert sum(map(len, some.values())) == 5 and some == draw(changes, 5, 1) and some != draw(changes, 5, 2)
    assert sum(map(len, draw(changes, 99, 0).values())) == 8


def test_what_is_said_of_types_is_left_alone() -> None:
    tree = ast.parse("def f(x: int | None) -> list[1 + 1]:\n    y: Literal[3] = 3\n")
    assert sorted(mutants._annotations(tree)) == [((1, 9), (1, 19)), ((1, 24), (1, 35)), ((2, 7), (2, 17))]


def test_tests_are_those_of_the_mirrored_folder_that_name_it(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    assert str(Path("tests/ops/test_luma.py")) in own_tests(Path("atbsn/ops/luma.py"))
    assert all(Path(test).parent == Path("tests/ops") for test in own_tests(Path("atbsn/ops/root.py")))


def test_every_folder_of_the_package_has_its_tests(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of tests that mirrors it, or in the one above, as those of ``pictures/formats``."""
    monkeypatch.chdir(repository)
    for folder in sorted({module.parent for module in Path("atbsn").rglob("*.py")} - {Path("atbsn")}):
        tests = own_tests(folder / "__init__.py")
        assert tests and all(Path(test).parts[1] == folder.parts[1] for test in tests), (
            f"{folder}: its tests belong in tests/{folder.parts[1]}/, where nox -s mutants finds them"
        )


def test_the_changes_are_cosmic_rays() -> None:
    pytest.importorskip("cosmic_ray")
    path = Path(mutants.__file__).parents[1] / "atbsn" / "ops" / "recharge.py"
    changes = list(mutants.changes_of(path))
    assert len(changes) > 10 and len({change.place for change in changes}) > 5
    for change in changes[:5]:
        assert ast.parse(change.code()) and change.difference().count("\n") >= 2
