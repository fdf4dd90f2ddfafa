"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def assets() -> Path:
    """Small reference files kept in the repository."""
    return REPOSITORY / "tests" / "assets"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real photographs and the authors' reference outputs, where they lie beside the checkout."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    return folder
