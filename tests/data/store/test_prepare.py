"""atbsn prepare: every pixel arrives, whatever interrupts it, and nothing torn looks complete."""

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from helpers.archives import INSTANCES, make_dnd, make_sidd_blocks, make_sidd_medium, photograph
from helpers.kinds import Command

from atbsn.app.arguments import command_parser
from atbsn.app.commands import prepare
from atbsn.data.folder import NoisyFolder
from atbsn.data.sidd import SIDDMedium
from atbsn.data.store import known
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError

TARGETS = ["raw.lmdb", "png.lmdb", "files"]


def run(arguments: Sequence[object]) -> None:
    """``atbsn prepare``, whose errors come through."""
    prepare.main(command_parser("prepare").parse_args(list(map(str, arguments))))


@pytest.fixture
def pictures(tmp_path: Path) -> NoisyFolder:
    """Four pictures, one of them smaller than a patch."""
    for seed, (name, size) in enumerate({"a": (70, 100), "b/c": (64, 64), "d": (30, 90), "e": (65, 33)}.items()):
        write_picture(tmp_path / "pictures" / f"{name}.png", Picture(photograph(*size, seed)[1]))
    return NoisyFolder(tmp_path / "pictures")


def arguments(target: Path, *more: str) -> list[str]:
    codec = target.stem if target.suffix == ".lmdb" else "png"
    return ["folder", str(target.parent / "pictures"), str(target), "--size", "32", "--codec", codec, *more]


def read_set(target: Path) -> dict[str, np.ndarray]:
    """All patches of a prepared set by key."""
    images = NoisyFolder(target, "lmdb" if target.suffix == ".lmdb" else "disk")
    return {images.key(index): images.read(index).rgb for index in range(len(images))}


def assert_is_complete(target: Path, pictures: NoisyFolder) -> None:
    """Every pixel of every picture is in a patch, at the place that its key tells; nothing else is left."""
    patches = read_set(target)
    for index in range(len(pictures)):
        whole = pictures.read(index).rgb
        again = np.zeros_like(whole)
        for key in [key for key in patches if key.startswith(f"{pictures.key(index)}_")]:
            top, left = map(int, key.split("_")[-2:])
            patch = patches.pop(key)
            assert patch.shape[:2] == (min(32, whole.shape[0]), min(32, whole.shape[1]))
            again[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        assert np.array_equal(again, whole)
    assert not patches
    names = {path.name for path in target.parent.iterdir()} - {"pictures", target.name, f".{target.name}.lock"}
    assert not names


@pytest.mark.parametrize("name", TARGETS)
def test_every_pixel_arrives(pictures: NoisyFolder, tmp_path: Path, name: str) -> None:
    run(arguments(tmp_path / name))
    assert_is_complete(tmp_path / name, pictures)
    manifest = json.loads((tmp_path / name / "manifest.json").read_text())
    assert manifest["format"] == "atbsn-patches" and manifest["count"] == len(manifest["patches"]) == 46
    assert (manifest["size"], manifest["stride"]) == (32, 16)
    if name == "files":
        extra = {path.suffix for path in (tmp_path / name).rglob("*") if path.is_file()} - {".png", ".json"}
        assert not extra


def test_size_and_stride(pictures: NoisyFolder, tmp_path: Path) -> None:
    run(arguments(tmp_path / "png.lmdb", "--stride", "30"))
    corners = {key.removeprefix("a_") for key in read_set(tmp_path / "png.lmdb") if key.startswith("a_")}
    assert corners == {f"{top:04d}_{left:04d}" for top in (0, 30, 38) for left in (0, 30, 60, 68)}


def test_whole_pictures(pictures: NoisyFolder, tmp_path: Path) -> None:
    run([*arguments(tmp_path / "raw.lmdb"), "--whole"])
    patches = read_set(tmp_path / "raw.lmdb")
    assert {key: rgb.shape[:2] for key, rgb in patches.items()} == {
        "a": (70, 100), "b/c": (64, 64), "d": (30, 90), "e": (65, 33)
    }  # fmt: skip
    assert np.array_equal(patches["a"], pictures.read(0).rgb)


def test_sidd_keeps_its_scenes(tmp_path: Path) -> None:
    noisy = make_sidd_medium(tmp_path)
    target = tmp_path / "medium.lmdb"
    run(["sidd", str(tmp_path / "SIDD_Medium_Srgb"), str(target), "--size", "64"])
    images = SIDDMedium(target, "lmdb")
    assert len(images) == 6 * 3 * 4 and not images.has_clean
    key = images.key(3)
    assert key == f"{INSTANCES[0]}/0001_NOISY_SRGB_010_0000_0076"
    assert np.array_equal(images.read(3).rgb, noisy[key.removesuffix("_0000_0076")][:64, 76:])
    assert images.groups(71) == {"scene": "004", "phone": "GP", "iso": "800"}
    run(["sidd", str(tmp_path / "SIDD_Medium_Srgb"), str(tmp_path / "files"), "--size", "64"])
    assert len(SIDDMedium(tmp_path / "files")) == 72


def test_dnd_as_16_bits(tmp_path: Path) -> None:
    noisy, _ = make_dnd(tmp_path / "DND")
    run(["dnd", str(tmp_path / "DND"), str(tmp_path / "dnd.lmdb"), "--whole"])
    kept = read_set(tmp_path / "dnd.lmdb")["0002"]
    assert kept.dtype == np.uint16 and (kept % 257).any()
    assert np.abs(kept - noisy[1].astype(float) * 65535).max() < 0.51  # a little more than rounding: float32


# --- interruptions -----------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which pictures are read, in order; the list's ``fail`` is one that cannot be."""
    seen: list[int] = []
    read = NoisyFolder.read

    def spy(images: NoisyFolder, index: int) -> Picture:
        seen.append(index)
        return read(images, index)

    monkeypatch.setattr(NoisyFolder, "read", spy)
    return seen


@pytest.mark.parametrize("name", TARGETS)
def test_a_picture_that_cannot_be_read_stops_it_and_the_rerun_continues(
    pictures: NoisyFolder, tmp_path: Path, reads: list[int], name: str
) -> None:
    broken = tmp_path / "pictures/d.png"
    data = broken.read_bytes()
    broken.write_bytes(data[:-100])
    with pytest.raises(UserError, match=r"d\.png: cannot be read as a picture"):
        run(arguments(tmp_path / name, "--workers", "1"))
    assert not (tmp_path / name).exists() and (tmp_path / f".{name}.partial").exists()
    broken.write_bytes(data)
    reads.clear()
    run(arguments(tmp_path / name, "--workers", "1"))
    assert sorted(reads) == [2, 3]
    assert_is_complete(tmp_path / name, pictures)


@pytest.mark.parametrize("name", TARGETS)
def test_what_other_options_left_is_not_mixed_in(pictures: NoisyFolder, tmp_path: Path, name: str) -> None:
    broken = tmp_path / "pictures/d.png"
    data = broken.read_bytes()
    broken.write_bytes(data[:-100])
    with pytest.raises(UserError):
        run(arguments(tmp_path / name, "--stride", "32"))
    broken.write_bytes(data)
    run(arguments(tmp_path / name))
    assert_is_complete(tmp_path / name, pictures)


@pytest.mark.skipif(sys.platform != "linux", reason="signals")
@pytest.mark.parametrize("name", ["raw.lmdb", "files"])
def test_a_killed_run_is_continued(repository: Path, tmp_path: Path, name: str) -> None:
    """SIGKILL at some moment: nothing is there that is not complete, and it gets done."""
    rng = np.random.default_rng(0)
    for number in range(12):
        write_picture(tmp_path / f"pictures/{number:02d}.png", Picture(rng.integers(0, 256, (200, 300, 3), np.uint8)))
    target = tmp_path / name
    partial = tmp_path / f".{name}.partial"
    process = subprocess.Popen([sys.executable, "-m", "atbsn", "prepare", *arguments(target, "--workers", "1")])
    while process.poll() is None and _amount(partial) < 500_000:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.exists() and not target.exists()
    run(arguments(target))
    assert_is_complete(target, NoisyFolder(tmp_path / "pictures"))


def _amount(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process")
def test_a_file_that_cannot_grow(repository: Path, tmp_path: Path, reads: list[int]) -> None:
    """As on a full disk: one clear message, status 2, nothing that looks complete, and the rerun continues."""
    resource = pytest.importorskip("resource")
    rng = np.random.default_rng(0)
    for number in range(6):
        write_picture(tmp_path / f"pictures/{number}.png", Picture(rng.integers(0, 256, (100, 100, 3), np.uint8)))
    target = tmp_path / "raw.lmdb"
    limit = 500_000
    process = subprocess.run(
        [sys.executable, "-m", "atbsn", "prepare", *arguments(target, "--workers", "1")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    output = process.stdout + process.stderr
    assert process.returncode == 2, output
    assert "MB are free there); free some space or choose another disk, and run the same command again" in output
    assert "Traceback" not in output
    assert not target.exists()
    run(arguments(target))
    assert 0 < len(reads) < 6
    assert_is_complete(target, NoisyFolder(tmp_path / "pictures"))


def test_a_full_disk(pictures: NoisyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_bytes(path: Path, data: bytes) -> None:
        if path.name.startswith("c_0032"):
            raise OSError(errno.ENOSPC, "No space left on device")
        with path.open("wb") as file:
            file.write(data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(
            UserError, match=r"cannot be written \(No space left on device; .* MB are free there\); free some space"
        ):
            run(arguments(tmp_path / "files"))
    assert not (tmp_path / "files").exists()
    run(arguments(tmp_path / "files"))
    assert_is_complete(tmp_path / "files", pictures)


@pytest.mark.parametrize("name", TARGETS)
def test_what_does_not_read_back_is_not_kept(
    pictures: NoisyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("atbsn.data.store.prepare.zlib", SimpleNamespace(crc32=lambda record: 1))
        with pytest.raises(UserError, match=r"a_0000_0000 and 45 more: not as written; check the disk"):
            run(arguments(tmp_path / name))
    assert not (tmp_path / name).exists() and not (tmp_path / f".{name}.partial").exists()


# --- what is there already ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_a_finished_set_is_verified_and_kept(
    pictures: NoisyFolder, tmp_path: Path, reads: list[int], name: str
) -> None:
    run(arguments(tmp_path / name))
    reads.clear()
    run(arguments(tmp_path / name))
    assert reads == [0]  # for its depth
    with pytest.raises(UserError, match="made from other pictures or with other options; remove it, or choose"):
        run(arguments(tmp_path / name, "--stride", "8"))
    _spoil(tmp_path / name)
    with pytest.raises(UserError, match=r"not as written|damaged or missing"):
        run(arguments(tmp_path / name))


def _spoil(target: Path) -> None:
    path = target / ("data.mdb" if target.suffix == ".lmdb" else "a_0000_0000.png")
    data = bytearray(path.read_bytes())
    place = len(data) // 2 if target.suffix == ".lmdb" else len(data) - 30
    data[place : place + 5000] = bytes(len(data[place : place + 5000]))
    path.write_bytes(data)


def test_a_folder_of_something_else_is_left_alone(pictures: NoisyFolder, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"no manifest\.json in it"):
        run(arguments(tmp_path / "files"))
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["thesis.tex"]


def test_two_runs_do_not_meet(pictures: NoisyFolder, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".files.lock"), pytest.raises(UserError, match="another run is preparing it"):
        run(arguments(tmp_path / "files"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--stride", "33"], "stride: 33 with patches of 32: pixels between them are lost; use 1 to 32"),
        (["--codec", "raw"], "a folder holds PNG files, not raw records"),
    ],
)
def test_wrong_arguments(pictures: NoisyFolder, tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run([*arguments(tmp_path / "files"), *more])
    assert {path.name for path in tmp_path.iterdir()} == {"pictures"}


# --- check -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_check_of_a_prepared_set(command: Command, pictures: NoisyFolder, tmp_path: Path, name: str) -> None:
    command("prepare", *arguments(tmp_path / name))
    status, output = command("prepare", "check", "prepared", tmp_path / name)
    assert status == 0 and "OK: " in output and "46 patches" in output
    _spoil(tmp_path / name)
    status, output = command("prepare", "check", "prepared", tmp_path / name)
    assert status == 2 and "OK" not in output and "Traceback" not in output


def test_check_tells_what_is_missing(command: Command, tmp_path: Path) -> None:
    make_sidd_medium(tmp_path)
    make_sidd_blocks(tmp_path / "validation", "Validation")
    make_dnd(tmp_path / "DND")
    for kind, folder, message in (
        ("sidd-medium", "SIDD_Medium_Srgb", "6 pictures, but sidd-medium has 320"),
        ("sidd-validation", "validation", "6 pictures, but sidd-validation has 1280"),
        ("sidd-benchmark", "validation", "BenchmarkNoisyBlocksSrgb.mat: no such file; found there: Validation"),
        ("dnd", "DND", "6 pictures, but dnd has 1000"),
        ("polyu", "PolyU", "CroppedImages: no such folder"),
        ("prepared", "DND", "no manifest.json in it"),
    ):
        status, output = command("prepare", "check", kind, tmp_path / folder)
        assert status == 2 and message in output and "OK:" not in output, output


def test_check_lists_all_that_is_wrong(command: Command, pictures: NoisyFolder, tmp_path: Path) -> None:
    for name in ("a.png", "d.png"):
        (tmp_path / "pictures" / name).write_bytes(b"no picture")
    status, output = command("prepare", "check", "folder", tmp_path / "pictures")
    assert status == 2 and "2 of 4 pictures cannot be used" in output and "Traceback" not in output
    assert "a.png: cannot be read" in output and "d.png: cannot be read" in output


def test_check_says_ok(command: Command, tmp_path: Path) -> None:
    for number in range(15):
        for kind, rgb in zip(("mean", "real"), photograph(20, 30, number), strict=True):
            write_picture(tmp_path / f"CC15/{number}_{kind}.png", Picture(rgb))
    status, output = command("prepare", "check", "cc15", tmp_path / "CC15")
    assert status == 0 and "15 pictures of 20x30, with references" in output


@pytest.mark.parametrize("name", ["raw.lmdb", "files"])
def test_speed(
    pictures: NoisyFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(prepare.logger, "propagate", True)
    run(arguments(tmp_path / name))
    moment = iter(range(10**6))
    monkeypatch.setattr(known.time, "perf_counter", lambda: next(moment) / 100)
    with caplog.at_level("INFO", "atbsn"):
        run(["speed", str(tmp_path / name), "--patch_size", "30"])
    assert "patches of 30x30 a second in one process" in caplog.text
    with pytest.raises(UserError, match="--patch_size: 33: a picture is smaller"):
        run(["speed", str(tmp_path / name), "--patch_size", "33"])


def test_a_command_line_that_is_wrong(command: Command) -> None:
    for line in ([], ["sidd"], ["folder", "a", "b", "--size", "0"], ["check", "imagenet", "a"]):
        assert command("prepare", *line)[0] == 2
