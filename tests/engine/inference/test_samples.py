"""From samples to samples: every type and white, bands, in place, and what is copied."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import atbsn
from atbsn.archs.base import Network
from atbsn.engine.inference import samples as samples_module
from atbsn.engine.inference import transfer
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.plan import ComputeOptions
from atbsn.engine.inference.samples import PictureInProgress, denoise_samples
from atbsn.engine.inference.transfer import CleanRows, to_device, white_of
from atbsn.pictures import from_tensor, to_tensor
from atbsn.utils.errors import UserError

CPU = torch.device("cpu")


class Smooth(Network):
    """The mean of 3 x 3 pixels, times ``scale``."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.calls = 0

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return nn.functional.avg_pool2d(noisy, 3, 1, 1, count_include_pad=False) * self.scale


def denoiser(net: Network | None = None, tile: Any = 64, **asked: Any) -> Denoiser:
    return Denoiser(net or Smooth(), {}, CPU, ComputeOptions(tile=tile, overlap=16, precision="fp32", **asked))


def samples(dtype: Any, shape: tuple[int, ...] = (150, 70, 3)) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    return rng.uniform(-20, 275, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_the_way_there_and_back_changes_no_sample(dtype: type[np.generic]) -> None:
    rgb = samples(dtype)
    back = np.empty_like(rgb)
    white = white_of(rgb.dtype)
    assert CleanRows(to_device(rgb, CPU, white)[0], rgb.dtype, white).into(back)
    if np.issubdtype(dtype, np.integer):
        assert np.array_equal(back, rgb)
    else:
        assert np.allclose(back, np.clip(rgb, 0, 255), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_conversions_are_those_of_picture_files(dtype: type[np.generic]) -> None:
    rgb = samples(dtype)
    values = to_device(rgb, CPU, white_of(rgb.dtype))[0]
    assert torch.equal(values, to_tensor(rgb))
    back = np.empty_like(rgb)
    CleanRows(values * 1.01 - 1, rgb.dtype, white_of(rgb.dtype)).into(back)
    assert np.array_equal(back, from_tensor(values * 1.01 - 1, dtype))


@pytest.mark.parametrize(
    ("dtype", "white"), [(np.uint16, 1023), (np.uint8, 200), (np.float32, 1.0), (np.uint16, 65535)]
)
def test_any_white(dtype: type[np.generic], white: float) -> None:
    rgb = np.array([[[0, white // 2, white]]], dtype)
    assert to_device(rgb, CPU, white)[0, :, 0, 0].tolist() == pytest.approx([0, white // 2 * 255 / white, 255])
    back = np.empty_like(rgb)
    CleanRows(to_device(rgb, CPU, white)[0], rgb.dtype, white).into(back)
    assert back.ravel().tolist() == [0, white // 2, white]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("tile", [64, 80, "none"])
def test_bands_are_the_whole_picture(tile: int | str, in_place: bool) -> None:
    rgb, shares = samples(np.uint8), []
    expected = from_tensor(denoiser(tile="none")(to_tensor(rgb)[None])[0])
    given = rgb.copy()
    found = denoise_samples(denoiser(tile=tile), given, "x", on_progress=shares.append, in_place=in_place)
    assert np.array_equal(found, expected)
    assert (found is given) == in_place and np.array_equal(given, expected if in_place else rgb)
    assert shares == sorted(shares) and shares[-1] == 1


def test_nothing_is_computed_before_the_result_is_asked_for() -> None:
    net = Smooth()
    begun = PictureInProgress(denoiser(net), samples(np.uint8), "x")
    assert net.calls == 0
    begun.result()
    assert net.calls > 0


@pytest.mark.parametrize("tile", [64, "none"])
def test_output_that_is_no_number_is_an_error(tile: int | str) -> None:
    with pytest.raises(UserError, match=r"photo\.jpg: the network's output is not finite; check its weights"):
        denoise_samples(denoiser(Smooth(float("nan")), tile), samples(np.uint8), "photo.jpg")
    with pytest.raises(UserError, match="image: the network's output is not finite"):
        atbsn.denoise(Smooth(float("inf")), samples(np.uint8) | 1)


def test_a_picture_is_uploaded_once_as_it_is_and_comes_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a GPU, on the CPU: bytes of 8 bits there, bytes of 8 bits back, no others."""
    moved = []

    def upload(rows: np.ndarray, device: torch.device) -> torch.Tensor:
        moved.append(("there", rows.dtype.name, rows.nbytes))
        return torch.from_numpy(rows.copy())

    def download(*tensors: torch.Tensor) -> tuple[list[torch.Tensor], Any]:
        moved.extend(("back", str(tensor.dtype), tensor.numel() * tensor.element_size()) for tensor in tensors)
        return list(tensors), Arrived()

    monkeypatch.setattr(transfer, "_upload", upload)
    monkeypatch.setattr(transfer, "_download", download)
    monkeypatch.setattr(transfer, "is_asynchronous", lambda device: True)
    for dtype, kind in ((np.uint8, "uint8"), (np.uint16, "int16"), (np.float64, "float32")):
        rgb = samples(dtype, (60, 50, 3))
        expected = rgb.copy()
        moved.clear()
        found = denoise_samples(denoiser(tile="none"), rgb, "x")
        monkeypatch.setattr(transfer, "is_asynchronous", lambda device: False)
        assert np.allclose(found, denoise_samples(denoiser(tile="none"), expected, "x"), atol=1e-4)
        monkeypatch.setattr(transfer, "is_asynchronous", lambda device: True)
        size = rgb.size * np.dtype(kind).itemsize
        assert moved == [("there", kind, size), ("back", f"torch.{kind}", size), ("back", "torch.bool", 1)]


class Arrived:
    def synchronize(self) -> None:
        pass


def test_a_wrong_size_or_precision_is_said() -> None:
    net, image = Smooth(), samples(np.uint8)
    for wrong, said in (
        ({"tile": 0}, "tile: 0"),
        ({"tile": 30, "overlap": 16}, "use 15 or less"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
    ):
        with pytest.raises(UserError, match=said):
            atbsn.denoise(net, image, **wrong)


def test_a_picture_that_is_under_way_is_waited_for_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: all of a whole picture is started at once; of bands, only the first."""
    monkeypatch.setattr(transfer, "_upload", lambda rows, device: torch.from_numpy(rows.copy()))
    monkeypatch.setattr(transfer, "_download", lambda *tensors: (list(tensors), Arrived()))
    expected = denoise_samples(denoiser(tile="none"), samples(np.uint8), "x")
    for module in (transfer, samples_module):
        monkeypatch.setattr(module, "is_asynchronous", lambda device: True)
    for tile, under_way in (("none", True), (64, False)):
        net = Smooth()
        begun = PictureInProgress(denoiser(net, tile), samples(np.uint8), "x")
        assert begun.under_way == under_way and net.calls > 0
        assert np.array_equal(begun.result(), expected)
        assert begun.result() is begun.result()
