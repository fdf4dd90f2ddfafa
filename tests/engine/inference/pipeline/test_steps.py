"""The steps of one picture: which version of it was read, and what is left out."""

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from helpers.photos import tiny

from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.pipeline.record import Record
from atbsn.engine.inference.pipeline.shards import Shard
from atbsn.engine.inference.pipeline.steps import Observer, Steps
from atbsn.engine.inference.pipeline.task import Task
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.errors import UserError

NOISY = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)


def steps(record: Record | None = None) -> Steps:
    return Steps(photo_denoiser(tiny()), read_picture, Observer(), record)


def test_a_file_is_known_by_its_size_and_date(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(NOISY))
    task = Task("a.png", tmp_path / "out.png", tmp_path / "a.png")
    stat = (tmp_path / "a.png").stat()
    facts = steps().check(task)
    assert facts == (stat.st_size, stat.st_mtime_ns)
    loaded = steps().load(task, facts)
    assert loaded is not None and loaded.facts == facts and np.array_equal(loaded.picture.rgb, NOISY)


def test_a_part_of_a_file_is_known_by_its_samples(tmp_path: Path) -> None:
    task = Task("set/1", tmp_path / "1.png", read=lambda: Picture(NOISY[:, ::-1]))
    assert steps().check(task) is None
    loaded = steps().load(task, None)
    assert loaded is not None and loaded.facts == (NOISY.nbytes, crc32(NOISY[:, ::-1].tobytes()))


def test_a_part_that_is_done_is_left_out(tmp_path: Path) -> None:
    noisy = NOISY.copy()
    task = Task("set/1", tmp_path / "1.png", read=lambda: Picture(noisy))
    write_picture(task.target, Picture(noisy))
    facts = (noisy.nbytes, crc32(noisy.tobytes()))
    record = Record(tmp_path, "settings", Shard(), resume=True)
    try:
        assert not record.has(task.name, facts, task.target)
        record.add(task.name, facts, task.target)
    finally:
        record.close()
    record = Record(tmp_path, "settings", Shard(), resume=True)
    try:
        assert steps(record).load(task, None) is None
        noisy[3, 3, 1] ^= 1
        assert steps(record).load(task, None) is not None, "another version of it"
    finally:
        record.close()


def test_what_cannot_be_read_or_would_be_written_over(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.png: cannot be read .*check the file"):
        steps().check(Task("none.png", tmp_path / "out.png", tmp_path / "none.png"))
    write_picture(tmp_path / "a.png", Picture(NOISY))
    with pytest.raises(UserError, match="would be overwritten by its denoised picture"):
        steps().check(Task("a.png", tmp_path / "a.png", tmp_path / "a.png"))


def test_a_stray_file_is_no_obstacle(tmp_path: Path) -> None:
    """Of the name of a temporary folder, which cannot be removed as one."""
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest" / ".stray.tmp").write_text("not ours")
    Record(tmp_path, "settings", Shard(), resume=True).close()
    assert (tmp_path / "manifest" / ".stray.tmp").read_text() == "not ours"
