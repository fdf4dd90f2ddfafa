"""The lines of manifests: how they are added, and which of them count."""

import json
from pathlib import Path

import pytest

from atbsn.engine.inference.pipeline import manifest
from atbsn.engine.inference.pipeline.manifest import DoneEntry, DoneManifest, DonePictures, has_results
from atbsn.engine.inference.pipeline.shards import Shard
from atbsn.utils.errors import UserError

ENTRY = DoneEntry("a/b.png", 10, 20, "a/b.png", 30, "s")


def write(path: Path, *lines: tuple[float, DoneEntry]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({**entry._asdict(), "time": at}) + "\n" for at, entry in lines))


@pytest.mark.parametrize(
    ("before", "kept"), [(b"", b""), (b"x\n", b"x\n"), (b"x\ny", b"x\ny\n"), (b"\n", b"\n"), (b"y", b"y\n")]
)
@pytest.mark.parametrize("resume", [True, False])
def test_lines_are_added_behind_whole_lines(tmp_path: Path, before: bytes, kept: bytes, resume: bool) -> None:
    """A line that was cut off is ended, and no empty one is added; without ``resume`` nothing of before stays."""
    path = tmp_path / "done-2-of-3.jsonl"
    path.write_bytes(before)
    written = DoneManifest(tmp_path, Shard(1, 3), resume)
    written.add(ENTRY)
    written.close()
    start = kept if resume else b""
    found = path.read_bytes()
    assert found.startswith(start)
    line = json.loads(found[len(start) :])
    assert line.pop("time") > 1e9 and line == ENTRY._asdict()
    assert found.count(b"\n") == start.count(b"\n") + 1


def test_the_temporary_folder_lives_as_long_as_the_manifest(tmp_path: Path) -> None:
    written = DoneManifest(tmp_path / "new", Shard(), resume=True)
    assert written.temporary == tmp_path / "new" / ".1-of-1.tmp" and written.temporary.is_dir()
    (written.temporary / "half").write_text("half a picture")
    written.close()
    assert not written.temporary.exists() and (tmp_path / "new" / "done-1-of-1.jsonl").exists()


def test_only_one_process_writes_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_PATIENCE", 0.05)
    first = DoneManifest(tmp_path, Shard(0, 2), resume=True)
    with pytest.raises(UserError, match=r"another process is doing shard 1-of-2 .*; wait for it, or give --shard"):
        DoneManifest(tmp_path, Shard(0, 2), resume=True)
    other = DoneManifest(tmp_path, Shard(1, 2), resume=True)
    assert first.temporary.is_dir(), "held by a process that lives"
    first.close()
    DoneManifest(tmp_path, Shard(0, 2), resume=True).close()
    other.close()


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"file.*: cannot be written"):
        DoneManifest(tmp_path / "file" / "manifest", Shard(), resume=False)


def test_the_latest_line_of_a_picture_counts(tmp_path: Path) -> None:
    """Whichever manifest it is in, and wherever it is there."""
    old, new, other = ENTRY._replace(size=1), ENTRY._replace(size=2), ENTRY._replace(name="c.png")
    write(tmp_path / "done-1-of-2.jsonl", (5.0, new), (3.0, old), (1.0, other))
    write(tmp_path / "done-2-of-2.jsonl", (4.0, old), (4.5, old))
    write(tmp_path / "undone.jsonl", (9.0, old))
    done = DonePictures(tmp_path, Shard())
    assert len(done) == 2
    assert new in done and old not in done and other in done
    for field, value in ENTRY._replace(size=2)._asdict().items():
        changed = {field: value + ("x" if isinstance(value, str) else 1)}
        assert new._replace(**changed) not in done, field
    assert done.has_name("a/b.png") and done.has_name("c.png") and not done.has_name("d.png")


@pytest.mark.parametrize("count", [2, 3])
def test_pictures_of_other_shards_are_left_out(tmp_path: Path, count: int) -> None:
    names = [f"{number}.png" for number in range(40)]
    write(tmp_path / "done-1-of-1.jsonl", *((1.0, ENTRY._replace(name=name)) for name in names))
    shards = [Shard(index, count) for index in range(count)]
    for shard, done in ((shard, DonePictures(tmp_path, shard)) for shard in shards):
        held = [name for name in names if shard.holds(name)]
        assert 0 < len(held) < 40 and len(done) == len(held)
        assert [name for name in names if done.has_name(name)] == held


def test_results_have_a_manifest(tmp_path: Path) -> None:
    assert not has_results(tmp_path)
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest" / "about.yml").touch()
    assert not has_results(tmp_path)
    write(tmp_path / "manifest" / "done-1-of-1.jsonl")
    assert has_results(tmp_path)
