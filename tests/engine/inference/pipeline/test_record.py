"""The record of a folder of results: what it says of failures."""

import csv
from pathlib import Path

from atbsn.engine.inference.pipeline.record import Record
from atbsn.engine.inference.pipeline.shards import Shard


def test_failures_are_named_up_to_twenty_and_all_are_in_the_file(tmp_path: Path) -> None:
    record = Record(tmp_path, "settings", Shard(), resume=True)
    try:
        assert record.summary() == "" and not record.failures.exists()
        record.fail("a.png", "not a picture")
        where = f"for reasons in {record.failures}"
        assert record.summary() == f"1 pictures could not be done, {where}: a.png"
        for number in range(21):
            record.fail(f"{number}.png", "cannot be read, too")
        named = ", ".join(["a.png", *(f"{number}.png" for number in range(19))])
        assert record.summary() == f"22 pictures could not be done, {where}: {named} and 2 more"
        with record.failures.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert rows[:2] == [["picture", "reason"], ["a.png", "not a picture"]] and len(rows) == 23
    finally:
        record.close()
    Record(tmp_path, "settings", Shard(), resume=True).close()
    assert not record.failures.exists(), "failures are those of the last run"


def test_nothing_was_done_before_without_resuming(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"clean")
    record = Record(tmp_path, "settings", Shard(), resume=True)
    record.add("a.png", (3, 4), tmp_path / "a.png")
    record.close()
    for resume in (True, False):
        record = Record(tmp_path, "settings", Shard(), resume=resume)
        assert record.has("a.png", (3, 4), tmp_path / "a.png") is resume
        assert record.has_name("a.png") is resume and not record.has_name("b.png")
        assert not record.has("a.png", (3, 5), tmp_path / "a.png"), "another version of it"
        assert not record.has("a.png", (3, 4), tmp_path / "none.png"), "its clean file is gone"
        record.close()
