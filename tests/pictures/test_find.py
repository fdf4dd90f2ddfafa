"""Pictures below folders, and what is passed over with its reason."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from atbsn.pictures import find_pictures, image_paths, walk_pictures
from atbsn.utils.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ["b.PNG", "a/z.jpg", "a/b/c.TiFF", "a.webp", "a-b/x.bmp", "a0.png", "a/.hidden.png", ".cache/x.png"]
    names += ["notes.txt", "a.gif", "b.gif", "film.MP4", "b.xmp", "a.jxl"]
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "in"


def names(paths: Iterable[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_everything_is_used_or_has_a_reason(folder: Path) -> None:
    found = find_pictures(folder)
    assert names(found.paths, folder) == ["a-b/x.bmp", "a.webp", "a/b/c.TiFF", "a/z.jpg", "a0.png", "b.PNG"]
    assert [name.as_posix() for name in found.names] == names(found.paths, folder)
    assert {path.relative_to(folder).as_posix(): reason for path, reason in found.skipped} == {
        ".cache": "hidden",
        "a/.hidden.png": "hidden",
        "a.gif": "GIF is not read; save it as TIFF, PNG or JPEG",
        "b.gif": "GIF is not read; save it as TIFF, PNG or JPEG",
        "a.jxl": "JXL is not read; save it as TIFF, PNG or JPEG",
        "b.xmp": "a side file of a picture",
        "film.MP4": "a video",
        "notes.txt": "not a picture by its name",
    }
    met = len(found.paths) + len(found.skipped)
    assert met == sum(len(files) for top, _, files in os.walk(folder) if ".cache" not in top) + 1


def test_summary(folder: Path) -> None:
    assert find_pictures(folder / "a-b").summary() == "using 1"
    summary = find_pictures(folder).summary()
    assert summary.startswith("using 6, skipped 8: ")
    assert "a.gif and 1 more (GIF is not read; save it as TIFF, PNG or JPEG)" in summary
    assert "film.MP4 (a video)" in summary


def test_the_order_is_that_of_the_names_and_of_image_paths(folder: Path) -> None:
    found = find_pictures(folder).paths
    assert found == sorted(found, key=lambda path: path.relative_to(folder).as_posix())
    assert image_paths(folder) == found


def test_several_inputs_and_each_picture_once(folder: Path, tmp_path: Path) -> None:
    roots: list[str | Path] = [
        folder / "b.PNG",
        str(folder / "a"),
        folder / "a" / "b",
        tmp_path / "none",
        folder / "notes.txt",
    ]
    found = find_pictures(roots)
    assert names(found.paths, folder) == ["b.PNG", "a/b/c.TiFF", "a/z.jpg"]
    assert [name.as_posix() for name in found.names] == ["b.PNG", "b/c.TiFF", "z.jpg"]
    assert dict(found.skipped) == {
        folder / "a" / ".hidden.png": "hidden",
        folder / "a" / "b" / "c.TiFF": "given twice",
        tmp_path / "none": "no such file or folder",
        folder / "notes.txt": "not a picture by its name",
    }


def test_links(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "d.png").write_bytes(b"")
    (folder / "linked").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "e.png").symlink_to(outside / "d.png")
    found = find_pictures(folder)
    assert folder / "e.png" in found.paths
    assert outside / "d.png" not in found.paths
    reasons = dict(found.skipped)
    assert (
        reasons[folder / "linked"] == reasons[folder / "loop"] == "a linked folder; give it by its own name to use it"
    )
    assert find_pictures(folder / "linked").paths == [folder / "linked" / "d.png"]


def test_a_pipe_by_the_name_of_a_picture_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    assert (folder / "pipe.png", "not a regular file") in find_pictures(folder).skipped
    assert (folder / "pipe.png", "not a regular file") in find_pictures(folder / "pipe.png").skipped
    assert folder / "pipe.png" not in image_paths(folder)


def test_a_folder_that_cannot_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_pictures(folder)
    reason = "cannot be listed (Permission denied); check its permissions"
    assert (folder / "a" / "b", reason) in found.skipped
    assert "a/z.jpg" in names(found.paths, folder)
    with pytest.raises(UserError, match=r"b: cannot be listed \(Permission denied\); check its permissions"):
        image_paths(folder)


def test_walking_lists_one_folder_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million files are neither listed nor held before the first is handed out."""
    listed = []

    def scandir(path: Any, real: Any = os.scandir) -> Any:
        listed.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    walk = walk_pictures(folder)
    assert next(item for item in walk if item.reason is None).path == folder / "a-b" / "x.bmp"
    assert listed == ["in", "a-b"]
    assert len(list(walk)) > 5
    assert listed == ["in", "a-b", "a", "b"]
