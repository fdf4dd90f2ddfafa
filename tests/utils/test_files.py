import errno
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from atbsn.utils.errors import UserError
from atbsn.utils.files import read_tensors, remove_temporary_files, write_atomically, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "notes.txt"
    write_text(path, "größer")
    assert path.read_bytes() == "größer".encode()
    write_text(path, "new")
    assert path.read_text() == "new"
    assert names(path.parent) == ["notes.txt"]


def test_takes_a_path_as_text(tmp_path: Path) -> None:
    write_atomically(str(tmp_path / "a"), lambda file: file.write(b"1"))
    assert (tmp_path / "a").read_bytes() == b"1"


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_interrupted_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"old")

    def write(file: IO[bytes]) -> None:
        file.write(b"half of the ")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["net.pth"]


def test_a_full_disk_is_the_users_to_solve(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(b"old")

    def write(file: IO[bytes]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match=r"net\.pth: cannot be written \(No space left on device\); free some space"):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["net.pth"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written \(.*\); choose a writable folder"):
        write_text(tmp_path / "file" / "notes.txt", "text")


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").mkdir()
    with pytest.raises(UserError, match=r"notes\.txt: cannot be written"):
        write_text(tmp_path / "notes.txt", "text")
    assert names(tmp_path) == ["notes.txt"]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written \(File name too long\); choose a shorter name"):
        write_text(tmp_path / ("n" * 300), "text")


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "sub"
    temporary = []
    write_atomically(folder / "net.pth", lambda file: temporary.extend(names(folder)))
    for path in (*(folder / name for name in temporary), tmp_path / ".hidden.tmp", folder / "notes.tmp"):
        path.touch()
    assert len(names(folder)) == 3
    remove_temporary_files(tmp_path)
    assert names(tmp_path) == [".hidden.tmp", "sub"]
    assert names(folder) == ["net.pth", "notes.tmp"]


def test_content_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.pth"
    synchronised = []

    def fsync(descriptor: int, real: Callable[[int], None] = os.fsync) -> None:
        synchronised.append((os.fstat(descriptor).st_size, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, lambda file: file.write(b"12345"))
    assert synchronised[0] == (5, False)


CONTENT: dict[str, Any] = {"params": {"weight": torch.arange(1000.0)}, "iteration": 3, "name": "größer"}


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_and_plain_values_come_back(tmp_path: Path, zipped: bool) -> None:
    torch.save(CONTENT, tmp_path / "a.state", _use_new_zipfile_serialization=zipped)
    found = read_tensors(tmp_path / "a.state")
    assert torch.equal(found["params"]["weight"], CONTENT["params"]["weight"])
    assert (found["iteration"], found["name"]) == (3, "größer")


def test_one_flipped_bit_in_a_tensor_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.state"
    torch.save(CONTENT, path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(1000.0).numpy().tobytes()) + 2001] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exception, match=r"(?i)checksum|crc"):
        read_tensors(path)


def test_a_compressed_file_is_not_unpacked(tmp_path: Path) -> None:
    """A few bytes may claim to be any number of gigabytes."""
    torch.save(CONTENT, tmp_path / "a.state")
    with (
        zipfile.ZipFile(tmp_path / "a.state") as plain,
        zipfile.ZipFile(tmp_path / "b.state", "w", zipfile.ZIP_DEFLATED) as compressed,
    ):
        for entry in plain.infolist():
            compressed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(ValueError, match="it is compressed"):
        read_tensors(tmp_path / "b.state")
