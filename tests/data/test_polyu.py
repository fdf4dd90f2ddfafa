from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from atbsn.data import build_dataset
from atbsn.data.polyu import PolyU
from atbsn.utils.errors import UserError


@pytest.fixture(scope="module")
def dataroot(shared: Path) -> Path:
    return shared / "data/polyu"


def test_cropped_pairs(dataroot: Path) -> None:
    images = build_dataset({"type": "PolyU", "dataroot": str(dataroot), "split": "cropped"})
    assert len(images) == 100
    assert {images.size(index) for index in range(100)} == {(512, 512)}
    assert images.key(0) == "Canon5D2_5_160_3200_chair_11"
    assert images.groups(0) == {"camera": "Canon5D2", "iso": "3200"}
    isos = {int(images.groups(index)["iso"]) for index in range(100)}
    assert (min(isos), max(isos)) == (800, 12800)


def test_noise_of_a_few_crops(dataroot: Path) -> None:
    """Over all 100 the noisy crops have 35.97 dB; a noisy and a reference picture swapped or shifted have less."""
    images = PolyU(dataroot)
    errors = [
        np.mean((images.read(index).rgb.astype(float) - images.read_clean(index).rgb) ** 2)
        for index in range(0, 100, 20)
    ]
    psnr = 10 * np.log10(255**2 / np.array(errors))
    assert ((psnr > 30) & (psnr < 45)).all()


def test_originals_leave_out_the_misaligned_one_unless_asked(dataroot: Path) -> None:
    images, everything = PolyU(dataroot, "original"), PolyU(dataroot, "original", misaligned=True)
    assert (len(images), len(everything)) == (34, 35)
    left_out = {pair[0] for pair in everything.pairs} - {pair[0] for pair in images.pairs}
    assert left_out == {"SonyA7II_compu"}
    cameras = Counter(everything.groups(index)["camera"] for index in range(35))
    assert set(cameras) == {"Canon5D2", "Canon80D", "Nikon800", "SonyA7II"}


def test_a_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CroppedImages: no such folder; dataroot must be an unpacked"):
        PolyU(tmp_path)
