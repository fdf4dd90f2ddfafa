"""Patches in an LMDB: the same pixels as in files, from any process, and nothing torn or foreign passes for one."""

import gc
import json
import multiprocessing
import pickle
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from helpers.archives import photograph

from atbsn.data import build_dataset
from atbsn.data.folder import NoisyFolder
from atbsn.data.loader import SampleNumbers, train_loader
from atbsn.data.patches import PatchDataset
from atbsn.data.store.lmdb import LmdbReader, LmdbWriter, record_key
from atbsn.data.store.manifest import Kept, Patch, PatchManifest, Tile
from atbsn.data.store.prepare import PatchPlan, prepare
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError

SIZES = {"a": (70, 90), "b/c": (64, 64), "d": (40, 100)}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NoisyFolder]:
    """The same pictures as files and as records."""
    root = tmp_path_factory.mktemp("pictures")
    for seed, (name, size) in enumerate(SIZES.items()):
        write_picture(root / "files" / f"{name}.png", Picture(photograph(*size, seed)[1]))
    found: dict[str, Any] = {"files": NoisyFolder(root / "files")}
    for codec in ("raw", "png"):
        target = root / f"{codec}.lmdb"
        prepare(found["files"], target, PatchPlan.make(found["files"], None, None, codec), num_workers=2)
        found[codec] = build_dataset({"type": "NoisyFolder", "dataroot": str(target), "io_backend": "lmdb"})
    return found


@pytest.fixture
def database(sets: dict[str, NoisyFolder], tmp_path: Path) -> Path:
    """A database to spoil."""
    target = tmp_path / "set.lmdb"
    prepare(sets["files"], target, PatchPlan.make(sets["files"], None, None, "raw"), num_workers=1)
    gc.collect()  # nobody has it open
    return target


@pytest.mark.parametrize("codec", ["raw", "png"])
def test_records_are_the_files(sets: dict[str, NoisyFolder], codec: str) -> None:
    images, files = sets[codec], sets["files"]
    assert [images.key(index) for index in range(3)] == list(SIZES)
    for index in range(3):
        assert images.size(index) == files.size(index)
        assert np.array_equal(images.read(index).rgb, files.read(index).rgb)
        crop = images.crop(index, 5, 30, 33)
        assert np.array_equal(crop, files.crop(index, 5, 30, 33))


def loaded(images: NoisyFolder, num_workers: int) -> list[torch.Tensor]:
    patches = PatchDataset(images, 32, seed=3)
    numbers = SampleNumbers(batch_size=2, total_iter=8)
    return [batch["noisy"] for batch in train_loader(patches, numbers, num_workers=num_workers)]


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("codec", ["raw", "png"])
def test_training_sees_the_same_patches_with_any_number_of_workers(
    sets: dict[str, NoisyFolder], codec: str, num_workers: int
) -> None:
    sets[codec].read(0)  # so that workers are forked from a process that has it open
    for batch, expected in zip(loaded(sets[codec], num_workers), loaded(sets["files"], 0), strict=True):
        assert torch.equal(batch, expected)


def checksum(images: NoisyFolder) -> int:
    return zlib.crc32(b"".join(images.crop(index, 3, 4, 30).tobytes() for index in range(3)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes(sets: dict[str, NoisyFolder], method: str) -> None:
    expected = checksum(sets["raw"])
    with multiprocessing.get_context(method).Pool(1 if method == "spawn" else 3) as pool:
        assert pool.map(checksum, [sets["raw"]] * 4) == [expected] * 4
    assert checksum(sets["raw"]) == expected  # a child's end does not close what the parent has open


def test_threads_and_several_readers_of_one_file(sets: dict[str, NoisyFolder]) -> None:
    store = LmdbReader(sets["raw"]._store.path)
    fresh = pickle.loads(pickle.dumps(store))
    with ThreadPoolExecutor(4) as pool:
        pixels = list(pool.map(lambda number: fresh.read(number % 3), range(60)))
    assert all(np.array_equal(pixels[number], store.read(number % 3)) for number in range(60))


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs /proc")
def test_a_raw_crop_reads_its_rows_only(tmp_path: Path) -> None:
    """A crop of a picture of 48 MB takes memory for the crop, and maps no more of the file than some strips of rows."""
    height, width = 4000, 4000
    rows = np.random.default_rng(0).integers(0, 256, (height, 1, 3), np.uint8)
    writer = LmdbWriter(tmp_path / "big.lmdb", "raw")
    writer.put(0, [Tile(0, "big", 0, 0, height, width)], [np.repeat(rows, width, axis=1).tobytes()], Kept([0]))
    writer.finish(PatchManifest("raw", None, None, "", [Patch("big", height, width, 0)]))
    writer.close()
    store = LmdbReader(tmp_path / "big.lmdb")
    before = _resident()
    tracemalloc.start()
    crop = store.crop(0, 2000, 1000, 256)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.array_equal(crop, np.repeat(rows[2000:2256], 256, axis=1))
    assert peak < 300_000
    assert _resident() - before < 8_000_000


def _resident() -> int:
    """Bytes of this process in memory, mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_nothing_is_written_by_reading(database: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in database.iterdir()}
    assert set(before) == {"data.mdb", "manifest.json"}
    LmdbReader(database).read(0)
    assert {path.name: path.stat().st_mtime_ns for path in database.iterdir()} == before


# --- what is wrong -----------------------------------------------------------------------------------------


def test_no_database(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no LMDB \(no data\.mdb in it\); make it with atbsn prepare"):
        NoisyFolder(tmp_path, "lmdb")


def test_a_database_where_files_are_expected(database: Path) -> None:
    with pytest.raises(UserError, match="an LMDB; set io_backend: lmdb"):
        NoisyFolder(database)


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.999])
def test_a_truncated_database(database: Path, kept: float) -> None:
    path = database / "data.mdb"
    with path.open("r+b") as file:
        file.truncate(int(kept * path.stat().st_size))
    with pytest.raises(UserError, match=r"truncated: .* bytes; copy it again"):
        LmdbReader(database)


@pytest.mark.parametrize("content", [b"", b"x", b"not a database" * 2000])
def test_a_file_that_is_no_database(database: Path, content: bytes) -> None:
    (database / "data.mdb").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as an LMDB"):
        LmdbReader(database)


def test_a_database_of_another_tool(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "basicsr.lmdb")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"baboon", b"\x89PNG...")
    with pytest.raises(UserError, match=r"without a manifest: an LMDB of another tool, or unfinished"):
        NoisyFolder(tmp_path / "basicsr.lmdb", "lmdb")


def test_an_unfinished_database(tmp_path: Path) -> None:
    writer = LmdbWriter(tmp_path / "half.lmdb", "raw")
    kept = Kept([1], "uint16", 1)
    writer.put(0, [Tile(0, "a", 0, 0, 2, 2)], [bytes(8)], kept)
    assert writer.done() == {0: kept}
    writer.close()
    with pytest.raises(UserError, match="or unfinished"):
        LmdbReader(tmp_path / "half.lmdb")


def spoil(database: Path, key: bytes, change: Callable[..., Any]) -> None:
    with lmdb.open(str(database), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        value = change(transaction.get(key))
        transaction.delete(key) if value is None else transaction.put(key, value)


@pytest.mark.parametrize("change", [lambda record: record[:-1], lambda record: None])
def test_a_damaged_record(database: Path, change: Callable[..., Any]) -> None:
    spoil(database, record_key(1), change)
    store = LmdbReader(database)
    store.read(0)
    with pytest.raises(UserError, match=r"patch 1 \(b/c\) is damaged or missing; prepare the set again"):
        store.crop(1, 0, 0, 8)


def test_a_damaged_png_record(sets: dict[str, NoisyFolder], tmp_path: Path) -> None:
    target = tmp_path / "png.lmdb"
    prepare(sets["files"], target, PatchPlan.make(sets["files"], None, None, "png"), num_workers=1)
    gc.collect()
    spoil(target, record_key(0), lambda record: b"no PNG" + record[6:])
    with pytest.raises(UserError, match=r"patch 0 \(a\) is damaged"):
        LmdbReader(target).read(0)


MANIFESTS = {
    "another version": (lambda facts: facts | {"version": 9}, "version 9, but this program reads 1"),
    "another format": (lambda facts: facts | {"format": "zip"}, "not a manifest of atbsn prepare"),
    "a list": (lambda facts: [], "not a manifest"),
    "fewer patches": (lambda facts: facts | {"patches": facts["patches"][1:]}, "does not match its checksum"),
    "another size": (lambda facts: facts | {"patches": [["a", 70, 91, 0], *facts["patches"][1:]]}, "not match"),
    "another depth": (
        lambda facts: facts | {"patches": [["a", 70, 90, 0, "object", 3], *facts["patches"][1:]]},
        "not match",
    ),
    "no codec": (lambda facts: {key: facts[key] for key in facts if key != "codec"}, "not match"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_changed_manifest(database: Path, case: str) -> None:
    change, message = MANIFESTS[case]
    spoil(database, b"manifest", lambda text: json.dumps(change(json.loads(text))).encode())
    with pytest.raises(UserError, match=message):
        LmdbReader(database)


@pytest.mark.parametrize("key", ["../a", "/etc/passwd", "b/../../a", "C:\\a", "b\\..\\..\\a", "\\a", ""])
def test_a_manifest_that_leads_out_of_its_folder(key: str) -> None:
    text = PatchManifest("png", None, None, "", [Patch(key, 1, 1, 0)]).to_json()
    with pytest.raises(UserError, match="leads out of the set"):
        PatchManifest.from_json(text, "manifest.json")


@pytest.mark.parametrize("key", ["a", "b/c", "b..c/..d"])
def test_a_manifest_that_does_not(key: str) -> None:
    manifest = PatchManifest("png", 512, 256, "digest", [Patch(key, 1, 2, 3)])
    assert PatchManifest.from_json(manifest.to_json(), "manifest.json") == manifest


def test_the_map_grows_with_what_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atbsn.data.store.lmdb._FIRST_MAP_SIZE", 2**16)
    writer = LmdbWriter(tmp_path / "grown.lmdb", "raw")
    for picture in range(4):
        tile = Tile(picture, f"{picture}", 0, 0, 300, 300)
        writer.put(picture, [tile], [bytes([picture]) * (300 * 300 * 3)], Kept([picture]))
    assert writer.done() == {picture: Kept([picture]) for picture in range(4)}
    writer.finish(PatchManifest("raw", None, None, "", [Patch(f"{picture}", 300, 300, 0) for picture in range(4)]))
    writer.close()
    assert (LmdbReader(tmp_path / "grown.lmdb").read(3) == 3).all()


def test_lmdb_is_asked_for_where_it_is_needed(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    with pytest.raises(UserError, match="pip install lmdb"):
        LmdbReader(database)
