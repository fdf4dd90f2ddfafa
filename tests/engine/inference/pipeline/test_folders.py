"""Folders of many pictures: shards, what is done, what fails, and every way of ending."""

import csv
import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.kinds import Command, WriteOptions
from many_files import Many

from atbsn.engine.inference.pipeline import manifest as manifests
from atbsn.engine.inference.pipeline import mirrored, steps
from atbsn.engine.inference.pipeline.manifest import DoneEntry, DoneManifest, DonePictures
from atbsn.engine.inference.pipeline.mirrored import Mirrored
from atbsn.engine.inference.pipeline.record import Record
from atbsn.engine.inference.pipeline.run import TaskResult, run
from atbsn.engine.inference.pipeline.shards import Shard, array_shard, own_shard, parse_shard
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.errors import UserError

FILES = 40
ALL = Shard()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Pictures in three folders, two of one stem among them, and what is none."""
    for number in range(FILES):
        picture = Picture(np.full((8, 9, 3), number, np.uint8), suffix=".bmp")
        write_picture(tmp_path / "in" / "abc"[number % 3] / f"{number}.bmp", picture)
    write_picture(tmp_path / "in" / "a" / "0.png", Picture(np.full((8, 9, 3), 200, np.uint8)))
    (tmp_path / "in" / "notes.txt").write_text("x")
    return tmp_path / "in"


class Inverted:
    """Stands for a denoiser; tells which pictures it was given."""

    device = torch.device("cpu")
    leaves_pictures_alone = False

    def __init__(self, ends_at: int | None = None) -> None:
        self.keys: list[str] = []
        self._ends_at = ends_at

    def clean(self, picture: Picture, key: str) -> Picture:
        if len(self.keys) == self._ends_at:
            raise KeyboardInterrupt
        self.keys.append(key)
        return replace(picture, rgb=255 - picture.rgb)


class Doing(Inverted):
    """Stands for a denoiser that does what it is told to."""

    def __init__(self, clean: Callable[..., Any]) -> None:
        super().__init__()
        self.clean = clean


@pytest.fixture(autouse=True)
def _the_stand_in_denoises(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin_clean(
        denoiser: Any, picture: Picture, name: str, *how: Any, real: Any = steps.begin_clean, **more: Any
    ) -> Callable[..., Any]:
        if not isinstance(denoiser, Inverted):
            return real(denoiser, picture, name, *how, **more)
        path = Path(name)
        clean = denoiser.clean(picture, f"{path.parent.name}/{path.stem}")
        return lambda: clean

    monkeypatch.setattr(steps, "begin_clean", begin_clean)


@dataclass
class Outcome:
    """What became of the pictures, in numbers."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    met: int = 0
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def tell(self, result: TaskResult) -> None:
        self.skipped += result.skipped
        self.failed += result.reason is not None
        self.done += not result.skipped and result.reason is None


def denoise_all(
    roots: list[Path], denoiser: Any, folder: Path, settings: str = "s", shard: Shard = ALL, resume: bool = False
) -> Outcome:
    found, outcome = Mirrored(roots, folder, shard), Outcome()
    with closing(Record(folder, settings, shard, resume, by_name=True)) as record:
        run(found, denoiser, outcome.tell, record=record)
    outcome.met, outcome.passed_over = found.met, found.passed_over
    return outcome


def denoise(
    source: Path, denoiser: Any, settings: str = "s", shard: Shard = ALL, resume: bool = False, output: str = "out"
) -> Outcome:
    return denoise_all([source], denoiser, source.parent / output, settings, shard, resume)


def reasons(folder: Path) -> dict[str, str]:
    rows = [row for path in folder.glob("manifest/failures-*.csv") for row in csv.DictReader(path.open(newline=""))]
    return {Path(row["picture"]).name: row["reason"] for row in rows}


def test_all_are_done_and_keep_their_names(source: Path) -> None:
    outcome = denoise(source, Inverted())
    assert (outcome.done, outcome.skipped, outcome.failed, outcome.met) == (FILES + 1, 0, 0, FILES + 1)
    counted = {reason: number for reason, number in outcome.passed_over.items() if number}
    assert counted["not a picture by its name"] == 1 and "" not in counted and "hidden" not in counted
    for path in [*source.rglob("*.bmp"), *source.rglob("*.png")]:
        result = read_picture(source.parent / "out" / path.relative_to(source))
        assert np.array_equal(result.rgb, 255 - read_picture(path).rgb)


def test_what_is_done_is_left_out_and_nothing_else(source: Path) -> None:
    denoise(source, Inverted())
    out = source.parent / "out"
    again = Inverted()
    assert denoise(source, again, resume=True).skipped == FILES + 1 and again.keys == []
    write_picture(source / "b" / "1.bmp", Picture(np.full((8, 9, 3), 77, np.uint8), suffix=".bmp"))  # changed
    facts = (source / "c" / "2.bmp").stat()
    os.utime(source / "c" / "2.bmp", ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))  # touched
    (out / "a" / "3.bmp").unlink()  # its clean file is gone
    (out / "b" / "4.bmp").write_bytes(b"half")  # or someone has cut it off
    (source / "a" / "6.bmp").rename(source / "a" / "new.bmp")  # a new name
    again = Inverted()
    outcome = denoise(source, again, resume=True)
    assert sorted(again.keys) == ["a/3", "a/new", "b/1", "b/4", "c/2"] and outcome.skipped == FILES - 4
    assert denoise(source, Inverted(), settings="of other weights", resume=True).done == FILES + 1
    assert denoise(source, Inverted()).done == FILES + 1, "without --resume all is done again"


def test_the_latest_line_counts(source: Path) -> None:
    """A file that comes back as it once was is not what its clean picture was made from."""
    picture = source / "a" / "0.bmp"
    first, facts = picture.read_bytes(), picture.stat()
    denoise(source, Inverted())
    write_picture(picture, Picture(np.full((8, 9, 3), 50, np.uint8), suffix=".bmp"))
    assert denoise(source, Inverted(), resume=True).done == 1
    picture.write_bytes(first)
    os.utime(picture, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    again = Inverted()
    denoise(source, again, resume=True)
    assert again.keys == ["a/0"]


def test_failures_are_told_with_the_reason_and_tried_again(source: Path) -> None:
    (source / "b" / "broken.png").write_bytes(b"nothing")
    (source / "gone.png").symlink_to("nowhere.png")
    outcome = denoise(source, Inverted())
    assert (outcome.done, outcome.failed) == (FILES + 1, 2)
    told = reasons(source.parent / "out")
    assert told.keys() == {"broken.png", "gone.png"} and "or WebP file, or a corrupt one" in told["broken.png"]
    write_picture(source / "b" / "broken.png", Picture(np.zeros((8, 9, 3), np.uint8)))
    outcome = denoise(source, Inverted(), resume=True)
    assert (outcome.done, outcome.failed) == (1, 1) and reasons(source.parent / "out").keys() == {"gone.png"}
    (source / "gone.png").unlink()
    assert denoise(source, Inverted(), resume=True).failed == 0 and not reasons(source.parent / "out")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("x: not finite; check"), "not finite"),
        (MemoryError("3 GB"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (ZeroDivisionError("by zero"), "a defect: ZeroDivisionError: by zero"),
    ],
)
def test_one_picture_does_not_end_the_others(source: Path, error: Exception, said: str) -> None:
    def clean(picture: Picture, key: str) -> Picture:
        if key == "a/3":
            raise error
        return picture

    outcome = denoise(source, Doing(clean))
    assert (outcome.done, outcome.failed) == (FILES, 1) and said in reasons(source.parent / "out")["3.bmp"]


def test_a_full_disk_ends_it_and_it_continues(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []

    def full(path: Path, picture: Picture, aside: Path) -> None:
        if len(written) == 5:
            raise UserError(f"{path}: cannot be written") from OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write_picture(path, picture, aside=aside)

    monkeypatch.setattr(steps, "write_picture", full)
    with pytest.raises(UserError, match="cannot be written"):
        denoise(source, Inverted())
    monkeypatch.setattr(steps, "write_picture", write_picture)
    outcome = denoise(source, Inverted(), resume=True)
    assert (outcome.done, outcome.skipped) == (FILES - 4, 5)


def test_an_interrupted_run_continues(source: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        denoise(source, Inverted(ends_at=12))
    outcome = denoise(source, Inverted(), resume=True)
    assert outcome.skipped <= 12 and outcome.done + outcome.skipped == FILES + 1


def test_nothing_is_left_beside_the_pictures(source: Path) -> None:
    killed = source.parent / "out" / "manifest" / ".2-of-3.tmp"
    killed.mkdir(parents=True)
    (killed / "half.png").write_bytes(b"half")
    denoise(source, Inverted())
    made = {path.name for path in (source.parent / "out").rglob("*") if path.is_file()}
    assert not any(name.endswith(".tmp") or name == "half.png" for name in made) and not killed.exists()


def test_the_same_shard_twice_at_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_PATIENCE", 0.1)
    held = DoneManifest(source.parent / "out" / "manifest", Shard(0, 2), resume=False)
    (held.temporary / "being written").touch()
    with pytest.raises(UserError, match="another process is doing shard 1-of-2"):
        denoise(source, Inverted(), shard=Shard(0, 2))
    denoise(source, Inverted(), shard=Shard(1, 2))
    assert (held.temporary / "being written").exists(), "it belongs to a living process"
    held.close()
    denoise(source, Inverted(), shard=Shard(0, 2))


def test_shards_share_out_without_overlap_or_gap(source: Path) -> None:
    keys = []
    for index in range(3):
        clean = Inverted()
        denoise(source, clean, shard=Shard(index, 3))
        keys += clean.keys
    assert len(keys) == FILES + 1 and len(set(keys)) == FILES  # two differ in the suffix alone
    assert denoise(source, Inverted(), resume=True).skipped == FILES + 1, "whoever did it"


def test_a_cut_off_line_is_no_line(tmp_path: Path) -> None:
    entry = DoneEntry("a/\udcff.png", 10, 20, "a/\udcff.png", 30, "s")
    manifest = DoneManifest(tmp_path, ALL, resume=False)
    manifest.add(entry)
    manifest.close()
    path = tmp_path / "done-1-of-1.jsonl"
    line = path.read_bytes()
    path.write_bytes(line + line[: len(line) // 2])
    other = entry._replace(name="b.png")
    manifest = DoneManifest(tmp_path, ALL, resume=True)
    manifest.add(other)
    manifest.close()
    (tmp_path / "done-2-of-9.jsonl").write_text('[]\n{"time": 1}\nnull\n{"name": 3}\n')
    done = DonePictures(tmp_path, ALL)
    assert len(done) == 2 and entry in done and other in done and entry._replace(size=11) not in done
    assert [json.loads(row)["name"] for row in path.read_bytes().splitlines()[:1]] == [entry.name]
    parts = [DonePictures(tmp_path, Shard(index, 2)) for index in range(2)]
    assert sum(map(len, parts)) == 2 and DoneEntry("c", 0, 0, "c", 0, "s") not in done
    assert len(DonePictures(tmp_path / "none", ALL)) == 0 and entry not in DonePictures(tmp_path / "none", ALL)


def test_it_begins_before_the_folder_is_listed(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it ahead by more than the pictures that are read while others are computed."""
    listed, ahead = [], []

    def walk(*arguments: Any, real: Any = mirrored.walk_pictures, **options: Any) -> Iterator[Any]:
        for item in real(*arguments, **options):
            if threading.current_thread() is threading.main_thread():
                listed.append(item)
            yield item

    monkeypatch.setattr(mirrored, "walk_pictures", walk)

    def clean(picture: Picture, key: str) -> Picture:
        ahead.append(len(listed) - len(ahead))
        return picture

    denoise(source, Doing(clean))
    assert len(ahead) == FILES + 1 and max(ahead) <= 5, ahead


def test_results_inside_the_input_are_not_taken_for_noisy(source: Path) -> None:
    for _ in range(2):
        assert denoise(source, Inverted(), output="in/clean").done == FILES + 1


def test_nothing_is_written_over(source: Path) -> None:
    with pytest.raises(UserError, match="would be overwritten"):
        denoise(source, Inverted(), output="in/../in")
    target = source.parent / "out" / "linked.png"
    write_picture(target, Picture(np.zeros((8, 9, 3), np.uint8)))
    (source / "linked.png").symlink_to(target)
    before = target.read_bytes()
    assert denoise(source, Inverted()).failed == 1
    assert target.read_bytes() == before and "would be overwritten" in reasons(source.parent / "out")["linked.png"]


def test_two_pictures_of_one_name(source: Path) -> None:
    write_picture(source.parent / "more" / "a" / "3.bmp", Picture(np.zeros((8, 9, 3), np.uint8), suffix=".bmp"))
    write_picture(source.parent / "x.bmp", Picture(np.zeros((8, 9, 3), np.uint8), suffix=".bmp"))
    roots = [source, source, source.parent / "more", source.parent / "x.bmp"]
    outcome = denoise_all(roots, Inverted(), source.parent / "out")
    assert (outcome.done, outcome.failed) == (FILES + 2, 1)
    assert "the name of two pictures" in reasons(source.parent / "out")["3.bmp"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        denoise(tmp_path / "none", Inverted())
    (tmp_path / "in").mkdir()
    assert denoise(tmp_path / "in", Inverted()).met == 0


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", "١/٢"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UserError, match="give i/n"):
        parse_shard(text)


def test_a_shard_of_processes_of_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_shard("2/8") == Shard(1, 8) and str(Shard(1, 8)) == "2-of-8"
    parts = [Shard(index, 2).split(rank, 3) for index in range(2) for rank in range(3)]
    assert parts == [Shard(number, 6) for number in range(6)]
    for name, value in {"ID": 30, "MIN": 10, "MAX": 40, "STEP": 10, "COUNT": 4}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    assert own_shard(None) == Shard(2, 4) and own_shard("1/2") == Shard(0, 2)


@pytest.mark.parametrize("change", [{"COUNT": "3"}, {"STEP": "7"}, {"MIN": None}, {"ID": "x"}, {"STEP": "0"}])
def test_an_array_with_gaps(change: dict[str, Any]) -> None:
    told = {"ID": "3", "MIN": "1", "MAX": "4", "STEP": "1", "COUNT": "4"} | change
    with pytest.raises(UserError, match="--shard i/n"):
        array_shard({f"SLURM_ARRAY_TASK_{name}": value for name, value in told.items() if value is not None})


def test_kill_and_resume(tmp_path: Path) -> None:
    """The command itself, killed while it writes: no half picture, and the rest is done."""
    many = Many(tmp_path, 120)
    killed = many.start("out")
    patience = time.monotonic() + 120
    while many.count("out") < 30 and killed.poll() is None and time.monotonic() < patience:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    said, _ = killed.communicate()
    whole, noted = many.whole("out"), many.noted("out")
    assert 30 <= len(noted) < 120, said
    assert set(noted) <= set(whole)
    resumed = many.start("out", "--resume")
    said, _ = resumed.communicate()
    assert resumed.returncode == 0 and f"{120 - len(noted)} pictures done, {len(noted)} were done before" in said, said
    assert len(many.whole("out")) == len(set(many.noted("out"))) == 120


def test_the_command_shares_out_and_tells_where_it_is_from(
    command: Command, write_options: WriteOptions, tmp_path: Path, assets: Path
) -> None:
    for number in range(8):
        write_picture(tmp_path / "in" / f"{number}.png", Picture(np.full((16, 16, 3), 20 * number, np.uint8)))
    (tmp_path / "in" / "broken.png").write_bytes(b"nothing")
    weights = {"pretrain_network": str(assets / "atbsn_width8.weights.safetensors")}
    arguments = ("-opt", write_options(network={"width": 8}, path=weights), "--output", tmp_path / "out", "--input")
    ended = [command("test.py", *arguments, tmp_path / "in", "--shard", f"{number}/2")[0] for number in (1, 2)]
    assert sorted(ended) == [0, 2], "one of them has the broken one"
    status, output = command("test.py", *arguments, tmp_path / "in", "--resume")
    assert status == 2 and "0 pictures done, 8 were done before" in output and "failures-1-of-1.csv" in output
    status, output = command("test.py", *arguments, tmp_path / "in", "--resume", "--set", "test.tile=none")
    assert status == 2 and "8 pictures done" in output
    (about, *_), others = sorted((tmp_path / "out" / "manifest").glob("about-*.yml")), 2
    assert "sha256: " in about.read_text() and len(list(about.parent.glob("about-*.yml"))) == others
    status, output = command("test.py", *arguments, tmp_path / "in" / "0.png", "--resume", "--set", "test.tile=none")
    assert status == 0 and "0 pictures done, 1 were done before; nothing is left to do" in output
    one = ("-opt", arguments[1], "--input", tmp_path / "in" / "0.png", "--output", tmp_path / "one.png")
    status, output = command("test.py", *one, "--resume")
    assert status == 2 and "--resume and --shard go with a folder of results" in output
