"""The floors of the house: a module imports only from its own floor or below, and importing does nothing."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

FLOORS = {
    "atbsn.ops": 0,
    "atbsn.metrics": 0,
    "atbsn.pictures": 0,
    "atbsn.registry": 0,
    "atbsn.utils": 0,
    "atbsn.options": 1,
    "atbsn.archs": 2,
    "atbsn.data": 2,
    "atbsn.noise": 2,
    "atbsn.models": 3,
    "atbsn.engine": 4,
    "atbsn.integrations": 4,
    "atbsn": 4,  # the public surface: names up to the engine's, handed out when they are asked for
    "atbsn.app": 5,
    "atbsn.__main__": 5,
    "train": 5,
    "valid": 5,
    "test": 5,
    "scripts": 5,
}

ROOMS = ("atbsn.engine.inference", "atbsn.engine.evaluation", "atbsn.engine.training", "atbsn.engine.adaptation")
"""Of floor 4: a room imports from those before it, and from modules beside them that import from no later one."""

OPTIONAL = {
    "bm3d", "h5py", "huggingface_hub", "lmdb", "lpips", "matplotlib", "onnx", "onnxruntime",
    "openvino", "pillow_heif", "rawpy", "spandrel", "submitit", "tensorflow", "torchmetrics", "wandb", "zarr",
}  # fmt: skip


def home(module: str) -> str | None:
    """The entry of FLOORS that ``module`` belongs to; None for other people's packages."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOORS), None)


def python_files() -> Iterator[tuple[str, Path]]:
    """(module name, path) of every file of the project but the tests."""
    paths = [*REPOSITORY.glob("atbsn/**/*.py"), *REPOSITORY.glob("scripts/**/*.py")]
    paths += [REPOSITORY / f"{command}.py" for command in ("train", "valid", "test")]
    for path in paths:
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield module, path


def imports(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Every module that ``source`` imports, anywhere in it: in functions and for type checking too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level + is_package or None] if node.level else []
            source_module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{source_module}.{alias.name}" for alias in node.names)


def imports_from_above(source: str, module: str, is_package: bool = False) -> list[str]:
    """Imports of ``source`` from a floor above ``module``'s."""
    own = FLOORS[home(module)]
    return [name for name in imports(source, module, is_package) if FLOORS.get(home(name), 0) > own]


def test_no_module_imports_from_above() -> None:
    found = {
        module: imports_from_above(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
        for module, path in python_files()
    }
    assert not {module: above for module, above in found.items() if above}


def test_no_room_imports_from_a_later_one() -> None:
    for module, path in python_files():
        own = next((number for number, room in enumerate(ROOMS) if module.startswith(room)), None)
        for name in imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"):
            other = next((number for number, room in enumerate(ROOMS) if name.startswith(room)), None)
            assert own is None or other is None or other <= own, (module, name)


def test_every_file_has_a_floor() -> None:
    homes = {module: home(module) for module, _ in python_files()}
    assert [module for module, name in homes.items() if name == "atbsn"] == ["atbsn"]
    assert set(homes.values()) == set(FLOORS)


def read_map() -> dict[str, int]:
    """(path, floor) of every line of the map in CONTRIBUTING.md."""
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown, floor = {}, -1
    for line in page.split("## The house")[1].split("```")[1].strip().splitlines():
        digit, names = re.match(r"(\d?) *((?:\S+(?:/|\.py)\s+)+)", line).groups()
        floor = int(digit or floor)
        shown |= dict.fromkeys(names.split(), floor)
    return shown


def test_the_map_shows_every_folder_on_its_floor() -> None:
    shown = read_map()
    assert not [path for path in shown if not (REPOSITORY / path).exists()]
    files = [path for path in REPOSITORY.glob("atbsn/**/*") if path.is_file() and "__pycache__" not in path.parts]
    folders = {f"{path.parent.relative_to(REPOSITORY).as_posix()}/" for path in files} - {"atbsn/"}
    assert folders == {path for path in shown if path.startswith("atbsn/") and path.endswith("/")}
    for path, floor in shown.items():
        own = home(path.rstrip("/").removesuffix(".py").replace("/", "."))
        if own != "atbsn":  # data, not code
            assert FLOORS[own] == floor, path


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("atbsn.ops.padding", "from atbsn.archs import build_arch"),
        ("atbsn.ops.padding", "import atbsn.archs.unet as unet"),
        ("atbsn.archs.unet", "from atbsn import models"),
        ("atbsn.archs.unet", "from ..models.bsn import BSNModel"),
        ("atbsn.registry.build", "def f():\n    from atbsn.options import Options"),
        ("atbsn.data.base", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import atbsn.engine"),
        ("atbsn.models.bsn", "import atbsn"),
        ("atbsn.models.bsn", "from atbsn import denoise"),
        ("atbsn.engine.build", "import train"),
    ],
)
def test_an_import_from_above_is_noticed(module: str, source: str) -> None:
    assert imports_from_above(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("atbsn.archs.unet", "from atbsn.ops.padding import reflect_pad"),
        ("atbsn.archs.unet", "from .base import Network\nfrom ..utils import errors"),
        ("atbsn.data.base", "import numpy, atbsn.pictures"),
        ("train", "import atbsn\nfrom atbsn.engine.build import build_method"),
    ],
)
def test_an_import_from_below_is_allowed(module: str, source: str) -> None:
    assert not imports_from_above(source, module)


def test_optional_packages_are_imported_where_they_are_used() -> None:
    found = []
    for module, path in python_files():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = imports(ast.unparse(node), module, path.name == "__init__.py")
                found += [f"{module}: {name}" for name in names if name.partition(".")[0] in OPTIONAL]
    assert not found


def run_python(source: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", source], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_is_cheap() -> None:
    loaded = run_python("import sys, atbsn; print(*sorted({m.partition('.')[0] for m in sys.modules}))").split()
    assert "atbsn" in loaded
    assert not {"torch", "pydantic", "numpy", "yaml", "safetensors"} & set(loaded)


def test_importing_everything_does_nothing() -> None:
    """No output, no random number drawn, no CUDA, no default changed, no optional package."""
    modules = [module for module, _ in python_files() if module.startswith("atbsn")]
    facts = "torch.get_default_dtype(), torch.get_num_threads(), torch.get_rng_state().sum().item(), random.getstate()"
    printed = run_python(
        f"import importlib, random, sys, torch\nbefore = {facts}\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"assert before == ({facts}) and not torch.cuda.is_initialized()\n"
        f"print(*({OPTIONAL!r} & set(sys.modules)))"
    )
    assert printed.strip() == ""


def test_public_names() -> None:
    import atbsn

    with pytest.raises(AttributeError, match="module 'atbsn' has no attribute 'denoize'"):
        atbsn.denoize  # noqa: B018
    public = {"build_arch", "denoise", "load", "load_weights"}
    assert set(atbsn.__all__) == public | {"__version__"}
    assert all(callable(getattr(atbsn, name)) for name in public)
