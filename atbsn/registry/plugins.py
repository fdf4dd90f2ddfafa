"""Plug-ins: the user's own networks, data sets and methods, in Python files outside of the package."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from zlib import crc32

from atbsn.utils.errors import UserError


def load_plugin(path: str | Path) -> None:
    """Run a Python file that registers classes (``@ARCHS.register`` and so on). It is run once in a process.

    The file may do anything that a program may, so name only files that you trust. Its exceptions are passed on.

    Raises:
        UserError: there is no such Python file.
    """
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise UserError(f"{path}: no such Python file; check the path, from the current folder")
    name = f"atbsn_plugin_{file.stem}_{crc32(str(file.resolve()).encode()):08x}"
    if name in sys.modules:
        return
    spec = spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, "a file that ends with .py has a loader"
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
