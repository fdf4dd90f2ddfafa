"""What servers that were killed left behind is deleted by the next one; what those have that run is not."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from atbsn.app.page.leftovers import OwnFolder, remove_leftovers

HANDED_IN = """
import sys
from atbsn.app.page.leftovers import OwnFolder
own = OwnFolder()
(own.visitors / "picture.png").write_bytes(b"private")
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_killed_servers_folder_is_deleted_a_running_ones_is_not(temporary: Path, repository: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HANDED_IN], cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline().strip() == b"there"
        (folder,) = temporary.glob("atbsn-page-*")
        assert remove_leftovers() == 0
        assert (folder / "visitors" / "picture.png").is_file()
    finally:
        process.kill()
        process.communicate()
    assert remove_leftovers() == 1
    assert not list(temporary.iterdir())


def test_own_folders_are_left_alone_until_they_are_removed(temporary: Path) -> None:
    one, two = OwnFolder(), OwnFolder()
    assert remove_leftovers() == 0
    assert one.visitors.is_dir() and two.visitors.is_dir()
    one.remove()
    two.remove()
    assert not list(temporary.iterdir())


def test_what_is_no_folder_of_ours_is_left_alone(temporary: Path) -> None:
    (temporary / "atbsn-page-file").touch()
    (temporary / "atbsn-page-being-made").mkdir()  # by a server that does not hold its lock yet
    (temporary / "elsewhere" / "visitors").mkdir(parents=True)
    try:
        (temporary / "atbsn-page-link").symlink_to(temporary / "elsewhere")
    except OSError:
        assert os.name == "nt"
    there = sorted(temporary.rglob("*"))
    assert remove_leftovers() == 0
    assert sorted(temporary.rglob("*")) == there
