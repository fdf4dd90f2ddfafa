"""The versions that have been tried are within those that we ask for, and none is missing."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

EXTRAS = ("dev", "onnx", "photos", "report", "web", "zarr")
"""Those that an environment for development has."""


def test_every_package_has_a_version_that_suits(repository: Path) -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.split("==") for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(name): Version(version) for name, version in pinned}
    assert len(versions) == len(pinned)
    extras = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    asked = (repository / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked += [line for extra in EXTRAS for line in extras[extra]]
    for requirement in map(Requirement, asked):
        if requirement.name != "atbsn":
            version = versions.get(canonicalize_name(requirement.name))
            assert version is not None and version in requirement.specifier, f"{requirement}: {version}"
