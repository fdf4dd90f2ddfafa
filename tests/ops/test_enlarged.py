"""Denoising at the size that a picture had."""

import pytest
import torch
from torch.nn import functional as F

from atbsn.ops.enlarged import denoise_enlarged


def ramp(height: int, width: int) -> torch.Tensor:
    """A slow ramp of three colours."""
    across, down = torch.arange(width) / width, torch.arange(height)[:, None] / height
    return torch.stack([60 + 90 * across + 0 * down, 100 + 50 * down + 0 * across, 150 - 40 * across * down])[None]


def noise(height: int, width: int) -> torch.Tensor:
    return 15 * torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("mode", "share"), [("bilinear", 0.19), ("bicubic", 0.03)])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_noise_that_was_enlarged_goes(factor: int, mode: str, share: float) -> None:
    """Nearly all of it, where the denoiser takes all of it off: an oracle."""
    clean = ramp(60, 72)

    def enlarge(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=factor, mode=mode, align_corners=False)

    noisy = enlarge(clean + noise(60, 72))
    result = denoise_enlarged(lambda small: clean, noisy, factor)
    inside = (..., slice(4 * factor, -4 * factor), slice(4 * factor, -4 * factor))
    left, before = ((picture - enlarge(clean))[inside].std() for picture in (result, noisy))
    assert before > 9 and left < share * before


def test_the_denoiser_sees_the_small_picture_and_its_noise() -> None:
    seen = []
    small = ramp(40, 50) + noise(40, 50)
    large = F.interpolate(small, scale_factor=3, mode="bicubic", align_corners=False)
    result = denoise_enlarged(lambda x: seen.append(x) or x, large, 3)
    assert torch.equal(result, large)  # nothing was taken off
    assert (seen[0] - small)[..., 4:-4, 4:-4].std() < 0.15 * 15


@pytest.mark.parametrize("size", [(31, 45), (3, 4), (1, 1)])
def test_any_size_and_several_outputs(size: tuple[int, int]) -> None:
    picture = ramp(*size)
    result = denoise_enlarged(lambda x: torch.stack([x, x - 5]), picture, 4)
    assert result.shape == (2, *picture.shape)
    torch.testing.assert_close(result[0], picture)
    torch.testing.assert_close(result[1], picture - 5)


@pytest.mark.parametrize(("size", "factor"), [((24, 32), 4), ((23, 30), 4), ((9, 11), 2), ((10, 14), 3)])
def test_the_small_picture_is_found_in_three_rounds(size: tuple[int, int], factor: int) -> None:
    """The denoiser halves it; what is beyond a multiple of the factor is reflected, and cut off again."""

    def enlarge(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=factor, mode="bicubic", align_corners=False)

    noisy = ramp(*size) + noise(*size)
    whole = F.pad(noisy, (0, -size[1] % factor, 0, -size[0] % factor), mode="reflect")
    small = F.avg_pool2d(whole, factor)
    for _ in range(3):
        small = small + F.avg_pool2d(whole - enlarge(small), factor)
    expected = noisy - enlarge(small / 2)[..., : size[0], : size[1]]
    torch.testing.assert_close(denoise_enlarged(lambda x: x / 2, noisy, factor), expected)
