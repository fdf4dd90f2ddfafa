"""Denoising into a folder: names, what is never overwritten, what could not be done."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.kinds import Command, WriteOptions

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.data.folder import NoisyFolder
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.pipeline.plan import of_set
from atbsn.engine.inference.pipeline.run import run
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.errors import UserError

NETWORK = {"type": "ATBSN", "width": 2}


class Developed(NoisyFolder):
    """Reads camera RAW, whatever is in the file, as ``read_picture`` gives it."""

    def read(self, index: int) -> Picture:
        if self.paths[index].suffix.lower() in (".dng", ".nef"):
            return Picture(np.full((20, 30, 3), 30_000, np.uint16), suffix=".tif")
        return super().read(index)


def denoise_set(images: Any, denoiser: Denoiser, folder: Path) -> dict[str, str]:
    """The pictures of a set to ``folder``; those that failed, with the reason."""
    failed = {}
    run(of_set(images, folder), denoiser, lambda result: failed.update({result.task.label: result.reason}))
    return {label: reason for label, reason in failed.items() if reason}


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    return photo_denoiser(build_arch(NETWORK).eval())


def pictures(folder: Path, *names: str) -> Path:
    """Files of these names; RAW is empty."""
    for name in names:
        if name.endswith((".dng", ".NEF")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        else:
            write_picture(folder / name, Picture(np.full((20, 30, 3), 99, np.uint8)))
    return folder


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_raw_becomes_a_tiff_of_16_bits_beside_files_of_its_stem(tmp_path: Path, denoiser: Denoiser) -> None:
    given = pictures(tmp_path / "in", "a.NEF", "b.dng", "b.tif", "b.JPG", "sub/c.png")
    before = {name: (given / name).read_bytes() for name in below(given)}
    assert denoise_set(Developed(given), denoiser, tmp_path / "out") == {}
    assert below(tmp_path / "out") == ["a.tif", "b.JPG", "b.dng.tif", "b.tif", "sub/c.png"]
    assert read_picture(tmp_path / "out" / "b.dng.tif").rgb.dtype == np.uint16
    assert read_picture(tmp_path / "out" / "b.tif").rgb.dtype == np.uint8
    assert {name: (given / name).read_bytes() for name in below(given)} == before


def test_originals_are_not_overwritten(tmp_path: Path, denoiser: Denoiser) -> None:
    given = pictures(tmp_path / "in", "a.dng", "sub/a.jpg")
    before = {name: (given / name).read_bytes() for name in below(given)}
    with pytest.raises(UserError, match=r"in/sub/a.jpg: would be overwritten by its denoised picture"):
        denoise_set(Developed(given), denoiser, given)
    assert {name: (given / name).read_bytes() for name in below(given)} == before


def test_two_pictures_of_one_target(tmp_path: Path, denoiser: Denoiser) -> None:
    given = pictures(tmp_path / "in", "a.dng", "a.jpg", "a.dng.tif")
    with pytest.raises(UserError, match=r"out/a.dng.tif: would be the denoised picture of .*a.dng and of .*a.dng.tif"):
        denoise_set(Developed(given), denoiser, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_could_not_be_done_is_listed_at_the_end(
    tmp_path: Path, command: Command, write_options: WriteOptions
) -> None:
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
def test_what_cannot_be_written_is_listed_too(tmp_path: Path, denoiser: Denoiser) -> None:
    given = pictures(tmp_path / "in", "a.png", "b.png")
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    assert list(denoise_set(NoisyFolder(given), denoiser, tmp_path / "out")) == [str(given / "a.png")]
    assert (tmp_path / "out" / "b.png").is_file()


def test_raw_is_no_output(tmp_path: Path, command: Command, write_options: WriteOptions) -> None:
    given = pictures(tmp_path / "in", "a.png")
    save_weights(tmp_path / "tiny.pth", build_arch(NETWORK).state_dict(), {"network": NETWORK})
    options = write_options(network=NETWORK, path={"pretrain_network": str(tmp_path / "tiny.pth")})
    status, output = command("test.py", "-opt", options, "--input", given / "a.png", "--output", tmp_path / "b.dng")
    assert status == 2 and "camera RAW is not written; name a .tif, .png or .jpg file" in output
    assert not (tmp_path / "b.dng").exists()
