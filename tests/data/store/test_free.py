"""Free photographs out of clones: from a repository that is made here."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from atbsn.data.store import free
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.errors import UserError


def git(folder: Path, *arguments: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *settings, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    folder = tmp_path / "clones" / "someone+photographs"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (60, 80, 3), np.uint8)
    write_picture(folder / "a.png", Picture(rgb))
    write_picture(folder / "b.jpg", Picture(rgb))
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "pictures")
    blob, commit = git(folder, "rev-parse", "HEAD:a.png"), git(folder, "rev-parse", "HEAD")
    entry = free.FreePhotograph("one", "someone/photographs", blob, "a.png", "CC0", 2, 0.3)
    lists = {
        "clean": [entry, entry._replace(file="two", blob=commit, noise=0.8), entry._replace(file="three", noise=-1.0)],
        "noisy": [entry._replace(file="four", blob=commit, path="b.jpg"), entry._replace(file="five", blob="0" * 40)],
    }
    monkeypatch.setattr(free, "entries", lists.__getitem__)
    return folder.parent, rgb


def test_clean_ones_are_averaged_until_they_are_clean(clones: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    folder, rgb = clones
    said = free.build_free(folder, tmp_path / "free")
    assert "4 of 5 photographs" in said and "missing: someone/photographs a.png" in said
    one = read_picture(tmp_path / "free" / "clean" / "one.png").rgb
    means = rgb.reshape(30, 2, 40, 2, 3).mean((1, 3))
    assert np.abs(one - means).max() <= 0.5 + 1e-6
    assert read_picture(tmp_path / "free" / "clean" / "two.png").rgb.shape == (20, 26, 3)
    assert read_picture(tmp_path / "free" / "clean" / "three.png").rgb.shape == (15, 20, 3)


def test_noisy_ones_are_copied_byte_for_byte_and_nothing_is_made_twice(
    clones: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, _ = clones
    free.build_free(folder, tmp_path / "free")
    four = tmp_path / "free" / "noisy" / "four.jpg"
    assert four.read_bytes() == (folder / "someone+photographs" / "b.jpg").read_bytes()
    one = tmp_path / "free" / "clean" / "one.png"
    one.write_bytes(b"mine")
    free.build_free(folder, tmp_path / "free")
    assert one.read_bytes() == b"mine"


def test_without_clones_it_says_what_to_clone(clones: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"git clone .*someone/photographs"):
        free.build_free(tmp_path / "nothing", tmp_path / "free")


def test_the_lists_are_whole() -> None:
    clean, noisy = free.entries("clean"), free.entries("noisy")
    assert len(clean) == 141 and len(noisy) == 39
    for entry in (*clean, *noisy):
        assert len(entry.blob) == 40 and entry.repository.count("/") == 1 and entry.terms
    assert len({entry.file for entry in clean}) == 141 and min(entry.reduced_by for entry in clean) >= 1
