"""Packages the option files of ``options/`` too, as ``atbsn/options/files``; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithOptions(build_py):
    """An editable installation uses ``options/`` itself."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "atbsn", "options", "files")
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(Path(__file__).resolve().parent / "options", target)


setup(cmdclass={"build_py": BuildWithOptions})
