"""Detail given back: what noise cannot explain, and only that."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.data.simulated import SimulatedCamera
from atbsn.engine.inference.finish import finish
from atbsn.ops import detail
from atbsn.ops.block_noise import BlockNoise, _flattest, _levels_and_spectrum, kept_frequencies
from atbsn.ops.cosines import dct_blocks, from_opponent, overlap_add, pooled_energy, to_opponent
from atbsn.ops.detail import MAX_LEFT_IN, _enlarged, _of_picture, _rows, left_in, return_detail
from atbsn.pictures import read_picture

SIGMA = 6.0


def scene(height: int = 128, width: int = 160, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A ramp, stripes in one corner of it, and noise that grows with intensity; (3, H, W) each."""
    ramp = torch.linspace(40, 200, width).expand(3, height, width).clone()
    across, down = torch.arange(width), torch.arange(height)[:, None]
    stripes = 15 * torch.sin(1.9 * across + 1.1 * down) * (across < 48) * (down < 48)
    noise = torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))
    return ramp, stripes.expand(3, -1, -1), noise * SIGMA * (ramp / 120).sqrt()


def mse(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


def test_blocks_add_up_to_the_picture() -> None:
    picture = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0)) * 255
    again = from_opponent(overlap_add(dct_blocks(to_opponent(picture))))
    torch.testing.assert_close(again[..., 4:-4, 4:-4], picture[..., 4:-4, 4:-4], rtol=0, atol=1e-3)


def test_an_amount_of_0_is_the_output_itself() -> None:
    ramp, stripes, noise = scene()
    assert return_detail(ramp + stripes + noise, ramp, 0) is ramp
    assert torch.equal(finish(lambda _: ramp, ramp + stripes + noise), ramp)


@pytest.mark.parametrize("amount", [1.0, "auto"])
def test_gives_back_what_was_taken(amount: Any) -> None:
    ramp, stripes, noise = scene(256, 256)
    output = ramp + 0.3 * stripes
    result = return_detail(ramp + stripes + noise, output, amount)
    lost, left = (mse(p[:, 4:44, 4:44], (ramp + stripes)[:, 4:44, 4:44]) for p in (output, result))
    assert left < 0.6 * lost


def test_gives_back_what_is_wide() -> None:
    ramp, _, noise = scene(512, 512)
    bump = 12 * torch.exp(-((torch.arange(512) - 140) ** 2 + (torch.arange(512)[:, None] - 180) ** 2) / (2 * 30**2))
    result = return_detail(ramp + bump + noise, ramp, 1.0)
    assert mse(result, ramp + bump) < 0.4 * mse(ramp, ramp + bump)


@pytest.mark.parametrize("heavy", [False, True])
def test_leaves_noise_out(heavy: bool) -> None:
    ramp, _, noise = scene(192, 192)
    if heavy:
        noise = noise * torch.exp(0.5 * torch.randn(1, 24, 24, generator=torch.Generator().manual_seed(1))).repeat(
            1, 8, 8
        )
    result = return_detail(ramp + noise, ramp, 1.0)
    assert mse(result, ramp) < 0.01 * float(noise.square().mean())


@pytest.mark.parametrize("share", [0.3, -0.3])
def test_auto_stays_out_where_noise_was_left_in(share: float) -> None:
    ramp, stripes, noise = scene()
    noisy, output = ramp + stripes + noise, ramp + share * noise
    assert MAX_LEFT_IN < left_in(noisy, output) / math.copysign(1, share) < abs(share / (1 - share)) + 0.02
    assert abs(left_in(noisy, ramp)) < MAX_LEFT_IN / 4
    assert torch.equal(return_detail(noisy, output, "auto"), output)
    assert not torch.equal(return_detail(noisy, output, 1.0), output)


def test_part_of_it_and_the_order_with_strength() -> None:
    ramp, stripes, noise = scene()
    noisy = ramp + stripes + noise
    whole = return_detail(noisy, ramp, 1.0)
    torch.testing.assert_close(return_detail(noisy, ramp, 0.25), torch.lerp(ramp, whole, 0.25), rtol=0, atol=1e-3)
    torch.testing.assert_close(finish(lambda _: ramp, noisy, detail=1.0, strength=0.5), noisy.lerp(whole, 0.5))
    assert torch.equal(finish(lambda _: ramp, noisy, detail=1.0, strength=0), noisy)


def test_texture_that_was_taken_everywhere_comes_back() -> None:
    """Rock and sand: nothing is flat, the noise is weak, and the output has a third of the texture."""
    ramp, _, noise = scene(256, 256)
    draws = torch.Generator().manual_seed(5)
    strength = torch.exp(0.7 * torch.randn(1, 1, 16, 16, generator=draws))
    texture = 6 * torch.randn(3, 256, 256, generator=draws).mean(dim=0) * 3**0.5
    texture = (texture * F.interpolate(strength, scale_factor=16, mode="bilinear")[0]).expand(3, -1, -1)
    noisy, output = ramp + texture + 0.2 * noise, ramp + texture / 3
    result = return_detail(noisy, output, 1.0)
    assert mse(result, ramp + texture) < 0.65 * mse(output, ramp + texture)
    assert torch.equal(return_detail(noisy, output, "auto"), output)  # which cannot be sure


def test_noise_that_was_left_in_is_no_texture() -> None:
    """It is as strong in one block as in the next, however much the output has of it."""
    ramp, _, noise = scene(256, 256)
    result = return_detail(ramp + noise, ramp + noise / 3, 1.0)
    assert mse(result, ramp + noise / 3) < 0.01 * mse(ramp + noise, ramp + noise / 3)


def pure_noise() -> tuple[Tensor, Tensor]:
    """A noisy picture of one grey and its clean output, whose activity grows from the left to the right."""
    draws = torch.Generator().manual_seed(2)
    ripple = torch.randn(1, 1, 512, 512, generator=draws).expand(-1, 3, -1, -1) * torch.linspace(0.1, 3, 512)
    clean = 100 + ripple
    return clean + SIGMA * torch.randn(1, 3, 512, 512, generator=draws), clean


def test_the_bar_is_where_one_in_a_thousand_of_the_noise_is() -> None:
    """Against independent draws of what white noise has; two in a thousand are 10 % lower."""
    noise = BlockNoise.estimate(*pure_noise(), kept_frequencies(1, torch.device("cpu")))
    white = torch.randn(3, 64, 20_000, 1, generator=torch.Generator().manual_seed(3))
    pooled = pooled_energy(white.square())[:, kept_frequencies(1, white.device)].flatten()
    expected = float(pooled.kthvalue(round(0.999 * len(pooled))).values)
    assert noise.threshold.tolist() == pytest.approx([expected] * 3, rel=0.05)
    assert noise.level.mean() == pytest.approx(SIGMA**2, rel=0.06)  # a median: 4 % less


def test_the_flattest_two_fifths_of_an_intensity_tell_the_noise() -> None:
    activity = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).float()
    chosen = _flattest(torch.zeros(1000, dtype=torch.long), activity)
    assert activity[chosen].sort().values.tolist() == list(range(400))


def test_a_frequency_without_noise_has_a_thousandth_of_the_mean() -> None:
    """So that a rounding error there, divided by nothing, is no detail."""
    squares = torch.randn(3, 64, 600, generator=torch.Generator().manual_seed(0)).square()
    squares[:, 9] = 0
    _, spectrum = _levels_and_spectrum(squares, torch.zeros(600, dtype=torch.long))
    torch.testing.assert_close(spectrum[:, 9], spectrum.mean(dim=1) / 1000, rtol=1e-3, atol=0)
    assert spectrum.mean().item() == pytest.approx(1, rel=0.1)


def test_nothing_is_kept_for_gradients() -> None:
    ramp, stripes, noise = scene()
    assert not return_detail(ramp + stripes + noise, ramp.requires_grad_(), 1.0).requires_grad


def test_every_picture_of_a_batch_and_family_by_itself() -> None:
    scenes = [scene(96, 104, seed) for seed in range(2)]
    noisy = torch.stack([ramp + stripes + noise for ramp, stripes, noise in scenes])
    family = torch.stack([torch.stack([ramp, ramp + 2]) for ramp, _, _ in scenes], dim=1)
    result = return_detail(noisy, family, 1.0)
    assert result.shape == (2, 2, 3, 96, 104)
    for member in range(2):
        for index in range(2):
            assert torch.equal(result[member, index], return_detail(noisy[index], family[member, index], 1.0))


@pytest.mark.parametrize("size", [(256, 96), (131, 150), (257, 66), (97, 203)])
def test_strips_are_the_whole(size: tuple[int, int]) -> None:
    ramp, stripes, noise = scene(*size)
    noisy = ramp + stripes + noise
    whole = _of_picture(noisy, ramp, 1.0, strip=2**24)
    torch.testing.assert_close(_of_picture(noisy, ramp, 1.0, strip=1), whole, rtol=0, atol=1e-3)
    assert (whole - ramp)[:, 0].abs().max() > 0.1 < (whole - ramp)[:, -1].abs().max()  # from the first row to the last


@pytest.mark.parametrize(("strip", "rows"), [(1, 32), (160 * 40 - 1, 32), (160 * 40, 40), (160 * 79, 72), (2**18, 100)])
def test_rows_of_a_strip(strip: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as ``strip`` pixels have, in multiples of 8, and at least 32; with 4 more above and 8 below."""
    seen: list[tuple[int, int]] = []

    def noted(x: Tensor, top: int, bottom: int) -> Tensor:
        seen.append((top, bottom))
        return _rows(x, top, bottom)

    monkeypatch.setattr(detail, "_rows", noted)
    ramp, stripes, noise = scene(100, 160)
    _of_picture(ramp + stripes + noise, ramp, 1.0, strip)
    assert seen[::2] == seen[1::2] == [(top - 4, min(top + rows, 100) + 8) for top in range(0, 100, rows)]


@pytest.mark.parametrize("height", [2, 5, 13])
def test_rows_beyond_a_picture_are_reflected(height: int) -> None:
    """Also where the rows that are cut out are too few to reflect in themselves."""
    x = torch.rand(1, 3, height, 4)
    period = 2 * (height - 1)
    for top in range(-9, height):
        for bottom in range(max(1, top + 1), height + 9):
            rows = [min(row % period, period - row % period) for row in range(top, bottom)]
            assert torch.equal(_rows(x, top, bottom), x[:, :, rows])


@pytest.mark.parametrize(("top", "bottom"), [(0, 50), (0, 32), (8, 17), (16, 48), (24, 43), (48, 50), (40, 41)])
def test_rows_of_the_enlarged_are_those_of_the_whole(top: int, bottom: int) -> None:
    wide = torch.rand(1, 3, 13, 9)
    whole = F.interpolate(wide, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(_enlarged(wide, top, bottom, 34), whole[..., top:bottom, :34])


@pytest.mark.parametrize("amount", [0.5, "auto"])
def test_detail_of_both_widths_is_added(amount: Any) -> None:
    """Averages over 4 x 4 of 274 x 281 pixels are 69 x 71, where the last row and column are averages of fewer."""
    ramp, stripes, noise = scene(274, 281)
    noisy, output = ramp + stripes + noise, (ramp + 0.4 * stripes).half()
    y, x = noisy[None], output[None].float()
    fine = BlockNoise.estimate(y, x, kept_frequencies(1, x.device))
    assert fine is not None and abs(fine.left_in) < MAX_LEFT_IN
    small_y, small_x = (F.avg_pool2d(whole, 4, ceil_mode=True) for whole in (y, x))
    wide = BlockNoise.estimate(small_y, small_x, kept_frequencies(0, x.device))
    assert wide is not None and small_x.shape[-2:] == (69, 71)
    found = []
    for noise_of, residual, content in ((fine, y - x, x), (wide, small_y - small_x, small_x)):
        residual, content = (F.pad(whole, (0, 0, 8, 8), mode="reflect") for whole in (residual, content))
        found.append(noise_of.significant(residual, content)[..., 8:-8, :])
    large = F.interpolate(found[1], scale_factor=4, mode="bilinear", align_corners=False)[..., :274, :281]
    expected = x + (0.5 if amount == 0.5 else 1) * (found[0] + large)
    result = return_detail(noisy, output, amount)
    assert result.dtype == torch.half and min(part.abs().max() for part in found) > 0.5
    torch.testing.assert_close(result[:, :-4].float(), expected[0, :, :-4], rtol=0, atol=0.13)  # half's last digit


def test_auto_returns_detail_up_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the limit and at it, on both sides of 0."""
    ramp, stripes, noise = scene(100, 104)
    for share in (0.2, -0.2):
        noisy, output = ramp + stripes + noise, ramp + share * noise
        measured = left_in(noisy, output)
        assert math.copysign(1, measured) == math.copysign(1, share)
        for limit, is_within in ((abs(measured), True), (math.nextafter(abs(measured), 0), False)):
            monkeypatch.setattr(detail, "MAX_LEFT_IN", limit)
            assert torch.equal(return_detail(noisy, output, "auto"), output) != is_within


def test_what_was_left_in_small_pictures_is_not_known() -> None:
    ramp, _, noise = scene(67, 68)
    assert math.isnan(left_in(ramp + noise, ramp))
    ramp, _, noise = scene(68, 68)
    assert not math.isnan(left_in(ramp + noise, ramp))


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (40, 40), (8, 2000)])
def test_small_pictures(size: tuple[int, int]) -> None:
    ramp, stripes, noise = scene(*size)
    result = return_detail(ramp + stripes + noise, ramp, "auto")
    assert result.shape == ramp.shape and result.isfinite().all()
    assert size == (8, 2000) or torch.equal(result, ramp)


@pytest.mark.parametrize("value", [0.0, 128.0, 255.0])
def test_without_any_noise(value: float) -> None:
    flat = torch.full((3, 96, 96), value)
    assert torch.equal(return_detail(flat, flat, 1.0), flat)


def test_precision_around_it_does_not_matter() -> None:
    ramp, stripes, noise = scene()
    with torch.autocast("cpu", torch.bfloat16):
        inside = return_detail(ramp + stripes + noise, ramp, 1.0)
    assert torch.equal(inside, return_detail(ramp + stripes + noise, ramp, 1.0))


def blind(noisy: np.ndarray) -> np.ndarray:
    """An average around every pixel without its 3 x 3 neighbours: over-smooth, and blind to its noise."""
    line = cv2.getGaussianKernel(11, 1.8)
    kernel = line @ line.T
    kernel[4:7, 4:7] = 0
    return cv2.filter2D(noisy, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)


def smooth(noisy: np.ndarray) -> np.ndarray:
    """Non-local means: it leaves noise here and takes detail there."""
    rounded = noisy.astype(np.uint8)
    return cv2.fastNlMeansDenoisingColored(rounded, None, 12, 12, 5, 13).astype(np.float32)


def pairs(shared: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of all three kinds: SIDD's blocks, PolyU's crops, the simulated camera."""
    for name in ("1_1", "29_13"):
        yield (
            read_picture(shared / f"data/sidd/val/noisy/{name}.png").rgb,
            read_picture(shared / f"data/sidd/val/clean/{name}.png").rgb,
        )
    for path in sorted((shared / "data/polyu/CroppedImages").glob("*_real.JPG"))[::40]:
        clean = path.with_name(path.name.replace("_real", "_mean"))
        yield read_picture(path).rgb[:256, :256], read_picture(clean).rgb[:256, :256]
    camera = SimulatedCamera(split="val")
    yield camera.read(0).rgb, camera.read_clean(0).rgb


@pytest.mark.parametrize("denoise", [blind, smooth])
def test_auto_costs_nothing_on_these_pictures(shared: Path, denoise: Callable[..., Any]) -> None:
    gains = []
    for noisy, clean in pairs(shared):
        y, x, output = (
            torch.from_numpy(p.astype(np.float32)).permute(2, 0, 1)
            for p in (noisy, clean, denoise(noisy.astype(np.float32)))
        )
        before, after = (F.mse_loss(p.clamp(0, 255), x) for p in (output, return_detail(y, output, "auto")))
        gains.append(10 * math.log10(float(before / after)))
    assert min(gains) > -0.05
    assert denoise is smooth or max(gains) > 0.3
