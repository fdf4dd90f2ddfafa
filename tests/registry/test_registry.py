import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atbsn.registry import Registry
from atbsn.registry.plugins import load_plugin
from atbsn.utils.errors import UserError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A package of the test's own name; ``package(module=source, ...)`` fills it and gives its registry."""
    name = f"package_of_{request.node.name}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    registry = Registry("shape", name)

    def fill(**sources: str) -> Registry[Any]:
        for module, source in sources.items():
            (folder / f"{module}.py").write_text(source)
        return registry

    monkeypatch.setattr("builtins.shapes", registry, raising=False)
    yield fill
    for module in set(sys.modules) - before:
        if module.startswith(name):
            del sys.modules[module]


def module(*names: str) -> str:
    return "".join(f"@shapes.register\nclass {name}: pass\n" for name in names)


def test_a_file_in_the_folder_is_found_without_being_listed(package: Any) -> None:
    registry = package(round=module("Circle", "Ellipse"), straight=module("Square"))
    assert registry.get("Square").__module__.endswith(".straight")
    assert list(registry) == ["Circle", "Ellipse", "Square"]
    assert "Circle" in registry
    assert "Cube" not in registry


def test_nothing_is_imported_before_the_first_look_up(package: Any) -> None:
    registry = package(round=module("Circle"))
    imported = f"{registry._package}.round"
    assert imported not in sys.modules
    registry.get("Circle")
    assert imported in sys.modules


def test_a_miss_suggests_the_nearest_name(package: Any) -> None:
    registry = package(round=module("Circle"), straight=module("Square"))
    with pytest.raises(UserError, match=r"'circel' is not a registered shape; did you mean 'Circle'\?"):
        registry.get("circel")
    with pytest.raises(UserError, match="'Xyz' is not a registered shape; known: Circle, Square"):
        registry.get("Xyz")


def test_two_classes_of_one_name_are_an_error(package: Any) -> None:
    registry = package(first=module("Circle"), second=module("Circle"))
    with pytest.raises(UserError, match=r"shape 'Circle' is registered twice: in .*first and in .*second; rename one"):
        registry.get("Circle")


def test_an_import_error_is_raised_every_time(package: Any) -> None:
    registry = package(broken="import no_such_package_anywhere\n", round=module("Circle"))
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
            registry.get("Circle")


def test_a_plugin_registers_its_classes_once(tmp_path: Path, package: Any) -> None:
    registry = package(round=module("Circle"))
    plugin = tmp_path / "mine.py"
    plugin.write_text(module("Star") + "shapes.runs = getattr(shapes, 'runs', 0) + 1\n")
    for _ in range(2):
        load_plugin(plugin)
    assert list(registry) == ["Circle", "Star"] and registry.runs == 1


def test_a_plugin_that_fails_can_be_mended(tmp_path: Path, package: Any) -> None:
    registry = package()
    plugin = tmp_path / "mine.py"
    plugin.write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        load_plugin(plugin)
    plugin.write_text(module("Star") + "# mended\n")
    load_plugin(plugin)
    assert list(registry) == ["Star"]


@pytest.mark.parametrize("name", ["none.py", "", ".", "mine.txt"])
def test_no_such_plugin(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="no such Python file; check the path"):
        load_plugin(tmp_path / name)
