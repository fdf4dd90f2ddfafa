"""Denoising into a folder: names, what is never overwritten, what could not be done."""

import sys

import numpy as np
import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.data.folder import NoisyPictures
from atbsn.engine.inference.folder import denoise_set
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.errors import UserError

NETWORK = {"type": "ATBSN", "width": 2}


class Developed(NoisyPictures):
    """Reads camera RAW, whatever is in the file, as ``read_picture`` gives it."""

    def read(self, index):
        if self.paths[index].suffix.lower() in (".dng", ".nef"):
            return Picture(np.full((20, 30, 3), 30_000, np.uint16), suffix=".tif")
        return super().read(index)


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    return photo_denoiser(build_arch(NETWORK).eval())


def pictures(folder, *names):
    """Files of these names; RAW is empty."""
    for name in names:
        if name.endswith((".dng", ".NEF")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        else:
            write_picture(folder / name, Picture(np.full((20, 30, 3), 99, np.uint8)))
    return folder


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_raw_becomes_a_tiff_of_16_bits_beside_files_of_its_stem(tmp_path, denoiser):
    given = pictures(tmp_path / "in", "a.NEF", "b.dng", "b.tif", "b.JPG", "sub/c.png")
    before = {name: (given / name).read_bytes() for name in below(given)}
    assert denoise_set(Developed([given]), denoiser, tmp_path / "out", "test") == []
    assert below(tmp_path / "out") == ["a.tif", "b.JPG", "b.dng.tif", "b.tif", "sub/c.png"]
    assert read_picture(tmp_path / "out" / "b.dng.tif").rgb.dtype == np.uint16
    assert read_picture(tmp_path / "out" / "b.tif").rgb.dtype == np.uint8
    assert {name: (given / name).read_bytes() for name in below(given)} == before


def test_an_original_of_another_picture_is_not_overwritten(tmp_path, denoiser):
    """Of two inputs, a RAW in one folder and a TIFF in the other, the first's target is the second."""
    raw, tiff = pictures(tmp_path / "raw", "a.dng"), pictures(tmp_path / "tiff", "a.tif", "a.jpg")
    before = (tiff / "a.tif").read_bytes()
    with pytest.raises(UserError, match=r"tiff/a.tif: would be overwritten by the denoised picture of .*raw/a.dng"):
        denoise_set(Developed([raw, tiff]), denoiser, tiff, "test")
    assert (tiff / "a.tif").read_bytes() == before
    assert below(tiff) == ["a.jpg", "a.tif"]


def test_two_pictures_of_one_target(tmp_path, denoiser):
    raw, tiff = pictures(tmp_path / "raw", "a.dng"), pictures(tmp_path / "tiff", "a.tif", "a.jpg")
    with pytest.raises(UserError, match=r"out/a.tif: would be the denoised picture of .*a.dng and of .*a.tif"):
        denoise_set(Developed([raw, tiff]), denoiser, tmp_path / "out", "test")
    assert not (tmp_path / "out").exists()


def test_what_could_not_be_done_is_listed_at_the_end(tmp_path, command, write_options):
    given = pictures(tmp_path / "in", "a.png", "b.png", "c.png", "sub/d.png")
    for name in ("a.png", "sub/d.png"):
        (given / name).write_bytes(b"no picture")
    save_weights(tmp_path / "tiny.pth", build_arch(NETWORK).state_dict(), {"network": NETWORK})
    options = write_options(network=NETWORK, path={"pretrain_network": str(tmp_path / "tiny.pth")})
    arguments = ("-opt", options, "--input", given, "--output", tmp_path / "out")
    status, output = command("test.py", *arguments)
    assert status == 2 and "Traceback" not in output
    (last,) = [line for line in output.splitlines() if "could not be done" in line]
    assert "2 pictures could not be done, for reasons in " in last and "failures-1-of-1.csv: " in last
    assert str(given / "a.png") in last and str(given / "sub" / "d.png") in last
    assert output.count("a.png: cannot be read as a picture (not a ") == 1
    assert output.index("d.png: cannot be read") < output.index(last)
    assert [name for name in below(tmp_path / "out") if not name.startswith("manifest")] == ["b.png", "c.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
def test_what_cannot_be_written_is_listed_too(tmp_path, denoiser):
    given = pictures(tmp_path / "in", "a.png", "b.png")
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    assert denoise_set(NoisyPictures([given]), denoiser, tmp_path / "out", "test") == [str(given / "a.png")]
    assert (tmp_path / "out" / "b.png").is_file()


def test_raw_is_no_output(tmp_path, command, write_options):
    given = pictures(tmp_path / "in", "a.png")
    save_weights(tmp_path / "tiny.pth", build_arch(NETWORK).state_dict(), {"network": NETWORK})
    options = write_options(network=NETWORK, path={"pretrain_network": str(tmp_path / "tiny.pth")})
    status, output = command("test.py", "-opt", options, "--input", given / "a.png", "--output", tmp_path / "b.dng")
    assert status == 2 and "camera RAW is not written; name a .tif file" in output
    assert not (tmp_path / "b.dng").exists()
