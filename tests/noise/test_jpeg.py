"""JPEG against the steps of the standard, written with SciPy's cosine transform, block by block."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from atbsn.noise.jpeg import jpeg, mix_channels, quantisation_tables, to_rgb, to_ycbcr


def plain_blocks(plane: np.ndarray, steps: np.ndarray) -> np.ndarray:
    result = np.empty_like(plane)
    for row in range(0, plane.shape[0], 8):
        for column in range(0, plane.shape[1], 8):
            block = dctn(plane[row : row + 8, column : column + 8], norm="ortho")
            result[row : row + 8, column : column + 8] = idctn(np.round(block / steps) * steps, norm="ortho")
    return result


def plain_ycbcr(rgb: np.ndarray) -> np.ndarray:
    """ITU-T T.871: Y as BT.601, Cb = (B - Y) / 1.772, Cr = (R - Y) / 1.402, around 0."""
    red, green, blue = rgb
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([luma, (blue - luma) / 1.772, (red - luma) / 1.402])


def plain_rgb(ycbcr: np.ndarray) -> np.ndarray:
    luma, blue, red = ycbcr
    return np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue])


def picture() -> np.ndarray:
    """(3, 16, 32) with edges and noise."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(20, 230, 32)[None, None] * np.array([1, 0.6, 0.3])[:, None, None]
    return (ramp + 40 * (np.indices((16, 32)).sum(0) % 11 < 4) + rng.normal(0, 8, (3, 16, 32))).clip(0, 255)


@pytest.mark.parametrize("quality", [8.0, 40.0, 93.0])
@pytest.mark.parametrize("subsampled", [False, True])
def test_a_picture_is_what_the_steps_of_the_standard_make_of_it(quality: float, subsampled: bool) -> None:
    rgb = picture()
    luma_steps, colour_steps = (table[0].double().numpy() for table in quantisation_tables(torch.tensor([quality])))
    luma, *colours = plain_ycbcr(rgb)
    made = [plain_blocks(luma - 128, luma_steps) + 128]
    for colour in colours:
        if subsampled:
            small = plain_blocks(colour.reshape(8, 2, 16, 2).mean((1, 3)), colour_steps[:8, :8])
            made.append(enlarged(enlarged(small).T).T)
        else:
            made.append(plain_blocks(colour, colour_steps))
    expected = plain_rgb(np.stack(made)).clip(0, 255)
    batch = torch.from_numpy(np.stack([255 - rgb, rgb])).float()  # each picture has a quality of its own
    found = jpeg(batch, torch.tensor([100.0, quality]), torch.tensor([not subsampled, subsampled]))
    off = np.abs(found[1].numpy() - expected)
    assert np.median(off) < 1e-3 and (off > 0.01).mean() < 0.05  # a coefficient may lie on the edge of a step
    assert found.shape == batch.shape and found.min() >= 0 and found.max() <= 255


def enlarged(plane: np.ndarray) -> np.ndarray:
    """Twice as many rows, 3/4 of the nearest and 1/4 of the next; the outermost as they are."""
    around = np.pad(plane, ((1, 1), (0, 0)), mode="edge")
    rows = [0.75 * around[1:-1] + 0.25 * around[:-2], 0.75 * around[1:-1] + 0.25 * around[2:]]
    return np.stack(rows, axis=1).reshape(-1, plane.shape[1])


def test_luma_and_colour_differences_are_those_of_the_standard() -> None:
    rgb = torch.from_numpy(picture()[None]).float()
    expected = torch.from_numpy(plain_ycbcr(picture())[None]).float()
    torch.testing.assert_close(to_ycbcr(rgb), expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(to_rgb(expected), rgb, atol=2e-3, rtol=0)


def test_one_matrix_for_all_pictures_or_one_for_each() -> None:
    x = torch.arange(24.0).view(2, 3, 2, 2)
    matrix = torch.tensor([[0.0, 1, 0], [0, 0, 2], [3, 0, 1]])
    expected = torch.stack([x[:, 1], 2 * x[:, 2], 3 * x[:, 0] + x[:, 2]], dim=1)
    torch.testing.assert_close(mix_channels(x, matrix), expected)
    both = mix_channels(x, torch.stack([torch.eye(3), matrix]))
    torch.testing.assert_close(both, torch.stack([x[0], expected[1]]))


def test_the_coarsest_tables_are_those_of_the_standard_ten_times_as_coarse() -> None:
    """Quality 5 scales by 10, quality 50 by 1, quality 75 by a half, and no step is below 1 or above 255."""
    (luma, colour), (half, _), (fine, _) = (quantisation_tables(torch.tensor([q])) for q in (50.0, 75.0, 100.0))
    assert luma[0, 0].tolist() == [16, 11, 10, 16, 24, 40, 51, 61] and colour[0, 3].tolist() == [47, 66] + [99] * 6
    coarse = quantisation_tables(torch.tensor([5.0]))[0]
    torch.testing.assert_close(coarse, (10 * luma).clamp(max=255))
    torch.testing.assert_close(half, (luma / 2 + 0.5).floor())
    assert fine.eq(1).all()
