"""Training sees what the files hold: 16 bits, one channel, and sets of several kinds."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from torch.utils.data import default_collate

from atbsn.data import base, build_dataset
from atbsn.data.base import ImageSet, deepest, kept_samples, picture_of
from atbsn.data.crops import PictureCrops
from atbsn.data.folder import NoisyFolder
from atbsn.data.loader import SampleNumbers, train_loader
from atbsn.data.paired import PairedFolder
from atbsn.data.patches import PatchDataset, to_batch
from atbsn.data.reduced import ReducedFolder, non_local_means
from atbsn.data.simulated import SimulatedCamera
from atbsn.data.store.lmdb import LmdbReader
from atbsn.data.store.manifest import Patch
from atbsn.data.store.prepare import PatchPlan, prepare, verify
from atbsn.pictures import Picture, read_picture, to_depth, write_picture
from atbsn.utils.errors import UserError

RNG = np.random.default_rng(0)


def deep(height: int = 40, width: int = 52, channels: int = 3) -> np.ndarray:
    """Noise of 16 bits, of which 8 hold one value in 257."""
    return RNG.integers(0, 2**16, (height, width, channels), np.uint16)


def write(path: Path, samples: np.ndarray) -> np.ndarray:
    write_picture(path, picture_of(samples))
    return samples


def seen_in_training(images: ImageSet, index: int, num_workers: int = 0) -> torch.Tensor:
    """The whole of picture ``index``, which must be square: (3, H, W), as a method gets it."""
    patches = PatchDataset(images, images.size(index)[0], use_flip=False, use_rot=False)
    numbers = SampleNumbers(batch_size=len(patches), total_iter=1)
    (raw,) = train_loader(patches, numbers, num_workers=num_workers)
    batch = to_batch(raw, "cpu")
    return batch["noisy"][batch["index"] == index][0]


def expected(samples: np.ndarray) -> torch.Tensor:
    values = samples.astype(np.float32) / (257 if samples.dtype == np.uint16 else 1)
    return torch.from_numpy(np.repeat(values, 3 // samples.shape[2], axis=2)).permute(2, 0, 1)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_arrive_to_the_last(tmp_path: Path, channels: int, num_workers: int) -> None:
    samples = write(tmp_path / "a.png", deep(32, 32, channels))
    assert torch.equal(seen_in_training(NoisyFolder(tmp_path), 0, num_workers), expected(samples))


@pytest.mark.parametrize("orientation", range(8))
def test_batches_of_sixteen_bits_are_turned_like_those_of_eight(orientation: int) -> None:
    """Also in the upper half, which is negative where 16 bits are taken as signed."""
    shallow = RNG.integers(0, 256, (2, 6, 6, 3), np.uint8)
    turned = [
        to_batch({"noisy": torch.from_numpy(noisy), "orientation": torch.full((2,), orientation), "index": None}, "cpu")
        for noisy in (shallow, to_depth(shallow, np.uint16))
    ]
    assert torch.equal(turned[0]["noisy"], turned[1]["noisy"])
    assert turned[1]["noisy"].is_contiguous(memory_format=torch.channels_last)


def test_a_set_of_several_kinds_has_the_deepest_and_loses_nothing(tmp_path: Path) -> None:
    kinds = {
        "a": deep(32, 32, 3),
        "b": RNG.integers(0, 256, (32, 32, 3), np.uint8),
        "c": RNG.integers(0, 256, (32, 32, 1), np.uint8),
    }
    for name, samples in kinds.items():
        write(tmp_path / f"{name}.png", samples)
    images = NoisyFolder(tmp_path)
    patches = PatchDataset(images, 32, use_flip=False, use_rot=False)
    batch = to_batch(default_collate([patches[number] for number in range(3)]), "cpu")
    for index, noisy in zip(batch["index"].tolist(), batch["noisy"], strict=True):
        assert torch.equal(noisy, expected(kinds["abc"[index]]))
    assert images.depth() == np.uint16


def test_what_eight_bits_hold_stays_eight_bits(tmp_path: Path) -> None:
    write(tmp_path / "a.png", RNG.integers(0, 256, (32, 32, 3), np.uint8))
    assert PatchDataset(NoisyFolder(tmp_path), 16)[0]["noisy"].dtype == torch.uint8


def test_grey_takes_a_third_of_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.png", RNG.integers(0, 256, (100, 100, 1), np.uint8))
    monkeypatch.setattr(base, "available_memory", lambda: 30_000)
    images = NoisyFolder(tmp_path)
    images.preload()
    crop = images.crop(0, 10, 20, 30)
    assert crop.shape == (30, 30, 3) and np.shares_memory(crop[..., 0], crop[..., 2])
    assert np.array_equal(crop, read_picture(tmp_path / "a.png").rgb[10:40, 20:50])


def test_memory_counts_what_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.png", deep(100, 100))
    monkeypatch.setattr(base, "available_memory", lambda: 100_000)
    with pytest.raises(UserError, match=r"2 pictures: decoded they take 0\.0 GB or more, which is over 80%"):
        PatchDataset(NoisyFolder(tmp_path), 16)  # 120,000 bytes; as 8 bits they would fit


# --- sets that compute --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_reduced_pictures_are_as_deep_as_their_files(tmp_path: Path, channels: int) -> None:
    samples = write(tmp_path / "a.png", deep(64, 64, channels))
    images = ReducedFolder(tmp_path, factors=[1, 2], min_side=16)
    assert np.array_equal(kept_samples(images.read(0)), samples)
    halved = samples.reshape(32, 2, 32, 2, channels).mean((1, 3))
    assert np.abs(kept_samples(images.read(1)) - halved).max() <= 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_non_local_means_of_sixteen_bits_are_those_of_eight(channels: int) -> None:
    """Up to how the neighbourhoods are compared, and to the colours that 8 bits round away."""
    y, x = np.mgrid[:96, :128]
    clean = np.stack([60 + x, 180 - y, 40 + (x + y) / 2], axis=2)[..., :channels]
    noisy = clean + RNG.normal(0, 8, clean.shape)
    shallow = non_local_means(noisy.clip(0, 255).round().astype(np.uint8), 10)
    smooth = non_local_means((257 * noisy).clip(0, 65535).astype(np.uint16), 10)
    assert smooth.dtype == np.uint16 and smooth.shape == noisy.shape
    errors = [np.sqrt(np.mean((values - clean) ** 2)) for values in (shallow.astype(float), smooth / 257)]
    assert errors[1] < 1.1 * errors[0] < 2
    assert np.sqrt(np.mean((smooth / 257 - shallow) ** 2)) < 1
    assert np.abs((smooth / 257 - shallow).mean((0, 1))).max() < 0.5


def test_the_simulated_camera_is_as_deep_as_the_photograph(tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :64]
    ramp = np.stack([20000 + 60 * x, 30000 + 50 * y, 25000 + 20 * (x + y)], axis=2).astype(np.uint16)
    write(tmp_path / "a.png", ramp)
    images = SimulatedCamera(tmp_path)
    noisy, clean = images.read(0).rgb, images.read_clean(0).rgb
    assert noisy.dtype == clean.dtype == np.uint16 and (noisy % 257).any() and (clean % 257).any()
    # the steps of 8 bits are 257 high
    assert np.abs(clean[8:-8, 8:-8].astype(int) - ramp[8:-8, 8:-8]).max() < 120
    with_jpeg = SimulatedCamera(tmp_path, jpeg_quality=90)
    assert with_jpeg.read(0).rgb.dtype == np.uint8
    assert np.array_equal(with_jpeg.read_clean(0).rgb, clean)


# --- prepared sets ------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> NoisyFolder:
    """Colour of 16 bits, grey of 16 bits, colour of 8 bits."""
    kinds = {"a": deep(70, 64), "b": deep(64, 64, 1), "c": RNG.integers(0, 256, (64, 90, 3), np.uint8)}
    for name, samples in kinds.items():
        write(tmp_path / "pictures" / f"{name}.png", samples)
    return NoisyFolder(tmp_path / "pictures")


@pytest.mark.parametrize("codec", ["raw", "png"])
def test_an_lmdb_holds_each_picture_as_it_is(mixed: NoisyFolder, tmp_path: Path, codec: Any) -> None:
    target = tmp_path / "set.lmdb"
    manifest = prepare(mixed, target, PatchPlan.make(mixed, None, None, codec), num_workers=2)
    assert [(patch.depth, patch.channels) for patch in manifest.patches] == [("uint16", 3), ("uint16", 1), ("uint8", 3)]
    assert '"version": 2' in (target / "manifest.json").read_text()
    verify(target, 2)
    images = NoisyFolder(target, "lmdb")
    assert images.depth() == np.uint16
    for index in range(3):
        picture, kept = mixed.read(index), images.read(index)
        assert kept.rgb.dtype == picture.rgb.dtype and kept.grey == picture.grey
        assert np.array_equal(kept.rgb, picture.rgb)
        crop = images.crop(index, 11, 21, 33)
        assert crop.dtype == picture.rgb.dtype and np.array_equal(crop, picture.rgb[11:44, 21:54])
    files, records = (PatchDataset(each, 32, seed=3) for each in (mixed, images))
    assert all(torch.equal(files[number]["noisy"], records[number]["noisy"]) for number in range(12))


def test_a_prepared_folder_holds_each_picture_as_it_is(mixed: NoisyFolder, tmp_path: Path) -> None:
    target = tmp_path / "patches"
    prepare(mixed, target, PatchPlan.make(mixed, 32, 32, "png"), num_workers=2)
    images = NoisyFolder(target)
    first = {images.key(index): images.read(index) for index in range(len(images))}
    for index, name in enumerate("abc"):
        picture, kept = mixed.read(index), first[f"{name}_0000_0032"]
        assert kept.grey == picture.grey and np.array_equal(kept.rgb, picture.rgb[:32, 32:64])


def test_a_set_of_eight_bits_is_one_that_earlier_versions_read(tmp_path: Path) -> None:
    write(tmp_path / "pictures" / "a.png", RNG.integers(0, 256, (40, 40, 3), np.uint8))
    images = NoisyFolder(tmp_path / "pictures")
    prepare(images, tmp_path / "set.lmdb", PatchPlan.make(images, None, None, "raw"), num_workers=1)
    text = (tmp_path / "set.lmdb" / "manifest.json").read_text()
    assert '"version": 1' in text and "uint8" not in text
    (patch,) = LmdbReader(tmp_path / "set.lmdb").manifest.patches
    assert patch == Patch("a", 40, 40, patch.crc32, "uint8", 3)


def test_a_set_that_an_earlier_version_cut_to_eight_bits_is_not_taken_for_the_pictures(
    mixed: NoisyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "set.lmdb"
    plan = PatchPlan.make(mixed, None, None, "raw")
    with monkeypatch.context() as patch:
        patch.setattr(NoisyFolder, "samples", lambda self, index: self.read(index).rgb8())
        prepare(mixed, target, plan, num_workers=1)
    with pytest.raises(UserError, match=r"its samples are uint8, those of a are uint16; remove it"):
        prepare(mixed, target, plan, num_workers=1)


def test_floats_are_kept_raw_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "pictures" / "a.png", deep(40, 40))
    files = NoisyFolder(tmp_path / "pictures")
    floats = RNG.uniform(0, 255, (40, 40, 3)).astype(np.float32)
    monkeypatch.setattr(files, "read", lambda index: Picture(floats))
    prepare(files, tmp_path / "set.lmdb", PatchPlan.make(files, 40, 40, "raw"), num_workers=1)
    images = NoisyFolder(tmp_path / "set.lmdb", "lmdb")
    assert images.depth() == np.float32 and np.array_equal(images.read(0).rgb, floats)
    assert torch.equal(seen_in_training(images, 0), torch.from_numpy(floats).permute(2, 0, 1))
    with pytest.raises(UserError, match=r"a: floats, which PNG does not hold; use --codec raw"):
        prepare(files, tmp_path / "png.lmdb", PatchPlan.make(files, 40, 40, "png"), num_workers=1)


# --- white --------------------------------------------------------------------------------------------------


def ten_bits(path: Path, height: int = 32, width: int = 32) -> np.ndarray:
    """10 bits in a file of 16, as laboratory cameras write them."""
    return write(path, RNG.integers(0, 1024, (height, width, 1), np.uint16))


def test_ten_bits_in_sixteen_fill_the_range_by_their_white(tmp_path: Path) -> None:
    samples = ten_bits(tmp_path / "a.png")
    expected = torch.from_numpy(samples[..., 0] * np.float32(255 / 1023))
    assert (seen_in_training(NoisyFolder(tmp_path, white=1023), 0)[1] - expected).abs().max() < 1 / 257
    assert seen_in_training(NoisyFolder(tmp_path), 0).max() < 4


def test_floats_with_a_white_of_the_set(tmp_path: Path) -> None:
    """As they are, not each by its own largest value."""
    for name, top in (("a", 900.0), ("b", 300.0)):
        samples = RNG.uniform(0, top, (32, 32)).astype(np.float32)
        tifffile.imwrite(tmp_path / f"{name}.tif", samples)
    seen = seen_in_training(NoisyFolder(tmp_path, white=1000), 1)
    assert seen.dtype == torch.float32
    assert torch.allclose(seen[0], torch.from_numpy(samples) * (255 / 1000), rtol=1e-5)


def test_white_of_the_other_sets_of_files(tmp_path: Path) -> None:
    samples = ten_bits(tmp_path / "in" / "a.png", 40, 40)
    ten_bits(tmp_path / "ref" / "a.png", 40, 40)
    for images in (
        PairedFolder(tmp_path / "in", tmp_path / "ref", white=1023),
        PictureCrops([str(tmp_path / "in")], side=40, min_side=20, white=1023),
        ReducedFolder(tmp_path / "in", factors=[1], min_side=20, white=1023),
    ):
        assert np.abs(images.read(0).rgb[..., 0] - samples[..., 0] * (65535 / 1023)).max() <= 0.5
        if images.has_clean:
            assert images.read_clean(0).rgb.max() > 60000


def test_white_that_is_none(tmp_path: Path) -> None:
    ten_bits(tmp_path / "a.png")
    with pytest.raises(UserError, match="white"):
        build_dataset({"type": "NoisyFolder", "dataroot": str(tmp_path), "white": 0})
    with pytest.raises(UserError, match="white: 1023: an LMDB holds what was prepared; leave white out"):
        NoisyFolder(tmp_path, "lmdb", white=1023)


# --- conversions --------------------------------------------------------------------------------------------


def test_deeper_types_hold_the_shallower_to_the_bit() -> None:
    every8, every16 = np.arange(2**8, dtype=np.uint8), np.arange(2**16, dtype=np.uint16)
    for depth in (np.uint16, np.float32):
        assert np.array_equal(to_depth(to_depth(every8, depth), np.uint8), every8)
    assert np.array_equal(to_depth(to_depth(every16, np.float32), np.uint16), every16)
    assert np.array_equal(to_depth(to_depth(every8, np.uint16), np.float32), every8.astype(np.float32))
    assert to_depth(np.array([-3, 254.9999, 400], np.float32), np.uint16).tolist() == [0, 65535, 65535]


def test_the_deepest_type() -> None:
    kinds = [np.dtype(kind) for kind in (np.uint8, np.float32, np.uint16)]
    assert deepest(kinds) == np.float32 and deepest(kinds[:1]) == np.uint8 and deepest(kinds[::2]) == np.uint16


def test_opencv_reads_what_is_written(tmp_path: Path) -> None:
    """Not only this program: the value of a pixel is in the file."""
    write(tmp_path / "a.png", np.full((4, 4, 1), 12345, np.uint16))
    assert (cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED) == 12345).all()
