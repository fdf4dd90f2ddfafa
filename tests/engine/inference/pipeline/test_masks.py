"""Masks in the pipeline: which belongs to which picture, and what becomes of one that is under a mask."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.picture import denoise
from atbsn.engine.inference.pipeline.masks import Masks
from atbsn.engine.inference.pipeline.run import denoise_file, run
from atbsn.engine.inference.pipeline.steps import Observer, Steps
from atbsn.engine.inference.pipeline.task import Task
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.errors import UserError

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def net() -> Network:
    torch.manual_seed(0)
    return build_arch({"type": "ATBSN", "width": 2}).eval()


def halves(height: int = 40, width: int = 50) -> np.ndarray:
    """White on the left, black on the right, grey between."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, :20], mask[:, 20:30] = 255, 128
    return mask


def write_mask(path: Path, mask: np.ndarray) -> None:
    write_picture(path, Picture(np.repeat(mask[..., None], 3, axis=2), grey=True))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_file_and_python_give_the_same(tmp_path: Path, net: Network, dtype: Any) -> None:
    noisy = RANDOM.integers(0, np.iinfo(dtype).max, (40, 50, 3), dtype, endpoint=True)
    write_picture(tmp_path / "a.png", Picture(noisy))
    write_mask(tmp_path / "m.png", halves())
    task = Task("a.png", tmp_path / "out.png", tmp_path / "a.png", mask=tmp_path / "m.png")
    denoise_file(task, photo_denoiser(net))
    written = read_picture(tmp_path / "out.png").rgb
    clean = denoise(net, noisy)
    assert np.array_equal(written[:, :20], clean[:, :20])
    assert np.array_equal(written[:, 30:], noisy[:, 30:])
    between = (clean[:, 20:30].astype(float) * 128 + noisy[:, 20:30] * 127.0) / 255
    assert np.abs(written[:, 20:30] - between).max() <= 0.51
    assert np.abs(clean - noisy.astype(float)).max() > 5
    assert np.array_equal(written, denoise(net, noisy, mask=halves()))
    assert np.array_equal(written, denoise(net, noisy, mask=halves() / 255))


def test_nothing_to_take_off_needs_no_blending(tmp_path: Path, net: Network) -> None:
    noisy = RANDOM.integers(0, 256, (40, 50, 3), np.uint8)
    write_picture(tmp_path / "a.png", Picture(noisy))
    write_mask(tmp_path / "m.png", halves())
    task = Task("a.png", tmp_path / "out.png", tmp_path / "a.png", mask=tmp_path / "m.png")
    denoise_file(task, photo_denoiser(net, strength=0.0))
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "a.png").read_bytes()


def test_a_mask_of_another_size_ends_its_picture_alone(tmp_path: Path, net: Network) -> None:
    tasks = []
    for name, width in (("a", 50), ("b", 51)):
        write_picture(tmp_path / f"{name}.png", Picture(RANDOM.integers(0, 256, (40, width, 3), np.uint8)))
        target = tmp_path / "out" / f"{name}.png"
        tasks.append(Task(name, target, tmp_path / f"{name}.png", mask=tmp_path / "m.png"))
    write_mask(tmp_path / "m.png", halves())
    results: list[Any] = []
    run(tasks, photo_denoiser(net), results.append)
    reasons = {result.task.name: result.reason for result in results}
    assert reasons["a"] is None
    assert reasons["b"].endswith(f"50 x 40 pixels, but {tmp_path / 'b.png'} has 51 x 40; make the mask as large as it")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_masked_picture_counts_with_its_mask_and_its_clean_samples(tmp_path: Path, net: Network) -> None:
    write_picture(tmp_path / "a.png", Picture(RANDOM.integers(0, 256, (40, 50, 3), np.uint8)))
    write_mask(tmp_path / "m.png", halves())
    steps = Steps(photo_denoiser(net), read_picture, Observer())
    sizes = []
    for mask in (None, tmp_path / "m.png"):
        task = Task("a.png", tmp_path / "out.png", tmp_path / "a.png", mask=mask)
        sizes.append(steps.load(task, steps.check(task)).nbytes)
    assert sizes == [6000, 6000 + 6000 + 2000]


def test_python_refuses_a_mask_of_another_size(net: Network) -> None:
    with pytest.raises(UserError, match="mask: 9 x 8 pixels, but image has 8 x 8"):
        denoise(net, np.zeros((8, 8, 3), np.uint8), mask=np.zeros((8, 9), bool))


def test_which_mask_is_whose(tmp_path: Path) -> None:
    for name in ("m.png", "of/a.png", "of/trip/b.TIF", "of/trip/c.png", "of/trip/c.jpg", "of/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    one, each = Masks(tmp_path / "m.png"), Masks(tmp_path / "of")
    assert one.of(Path("trip/b.jpg")) == tmp_path / "m.png"
    assert each.of(Path("a.nef")) == tmp_path / "of" / "a.png"
    assert each.of(Path("trip/b.jpg")) == tmp_path / "of" / "trip" / "b.TIF"
    for name, said in (("trip/c.jpg", "one mask is needed"), ("d.jpg", "no mask of its name"), ("x/a.jpg", "no mask")):
        with pytest.raises(UserError, match=said):
            each.of(Path(name))
    assert tmp_path / "of" / "a.png" in each and tmp_path / "a.png" not in each
    assert tmp_path / "m.png" in one and tmp_path / "of" / "a.png" not in one
    with pytest.raises(UserError, match=r"--mask .*nosuch: no such file"):
        Masks(tmp_path / "nosuch")
