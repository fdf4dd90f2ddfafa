"""The noise in DCT blocks: every step against the rule, written plainly for one block after the other with NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from atbsn.ops import block_noise
from atbsn.ops.block_noise import (
    BlockNoise,
    _bin,
    _flattest,
    _interpolated,
    _levels_and_spectrum,
    _quantile,
    _quietest,
    _sample,
    kept_frequencies,
)

CPU = torch.device("cpu")
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_blocks(picture: torch.Tensor, step: int) -> np.ndarray:
    """(1, 3, H, W) to the coefficients (3, 64, N) of its blocks in opponent colours, row by row of blocks."""
    opponent = np.einsum("oc,chw->ohw", OPPONENT, picture[0].double().numpy())
    _, height, width = opponent.shape
    corners = [(top, left) for top in range(0, height - 7, step) for left in range(0, width - 7, step)]
    blocks = [opponent[:, top : top + 8, left : left + 8] for top, left in corners]
    return np.stack([dctn(block, axes=(1, 2), norm="ortho").reshape(3, 64) for block in blocks], axis=2)


def plain_pooled(squares: np.ndarray) -> np.ndarray:
    """(3, 64, N), the average over neighbouring frequencies, or a third of each if that is more."""
    table, pooled = squares.reshape(3, 8, 8, -1), np.empty((3, 8, 8, squares.shape[-1]))
    for u in range(8):
        for v in range(8):
            near = table[:, max(0, u - 1) : u + 2, max(0, v - 1) : v + 2].mean(axis=(1, 2))
            pooled[:, u, v] = np.maximum(near, table[:, u, v] / 3)
    return pooled.reshape(squares.shape)


def lower_median(values: np.ndarray) -> np.ndarray:
    """The lower median over the last axis."""
    return np.sort(values, axis=-1)[..., (values.shape[-1] - 1) // 2]


def plain_levels(squares: np.ndarray, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three times in turn: the level of each of 16 intensities, and the spectrum."""
    count = np.array([(bins == index).sum() for index in range(16)])
    known = [index for index in range(16) if count[index] >= min(32, count.max())]
    nearest = [min(known, key=lambda other: abs(other - index)) for index in range(16)]
    level, spectrum = np.ones((3, 16)), np.ones((3, 64))
    for _ in range(3):
        energy = (squares / spectrum[:, :, None]).mean(axis=1)
        level = np.stack([lower_median(energy[:, bins == index]) for index in nearest], axis=1).clip(1e-4)
        spectrum = lower_median(squares / level[:, bins][:, None]) / 0.4549
        spectrum = np.maximum(spectrum, spectrum.mean(axis=1, keepdims=True) / 1000).clip(1e-6)
    return level, spectrum


def plain_flattest(bins: np.ndarray, activity: np.ndarray) -> list[int]:
    """Two fifths of the blocks of every intensity, at least 32 if there are so many; the least active first."""
    chosen: list[int] = []
    for index in range(16):
        here = sorted(np.flatnonzero(bins == index).tolist(), key=lambda block: activity[block])
        chosen += here[: max(32, int(np.float32(len(here)) * np.float32(0.4)))]
    return chosen


def plain_estimate(noisy: torch.Tensor, clean: torch.Tensor, kept: np.ndarray, step: int) -> dict[str, Any]:
    residual, content = plain_blocks(noisy - clean, step), plain_blocks(clean, step)
    mean = content[0, 0] / (8 * np.sqrt(3))
    bins = (mean // 16).astype(int).clip(0, 15)
    flat = plain_flattest(bins, np.square(content[:, 1:]).sum(axis=(0, 1)))
    residual, content, bins = residual[:, :, flat], content[:, :, flat], bins[flat]
    squares = residual**2
    level, spectrum = plain_levels(squares, bins)
    variance = level[:, bins][:, None] * spectrum[:, :, None]
    pooled = np.sort(plain_pooled(squares / variance)[:, kept].reshape(3, -1), axis=1)
    threshold = pooled[:, int(0.999 * pooled.shape[1]) - 1]
    weight = np.minimum(1 / variance, 1e4)[:, kept]
    left_in = (residual[:, kept] * content[:, kept] * weight).sum() / (squares[:, kept] * weight).sum()
    grey = np.log(squares[0, kept].mean(axis=0) / level[0, bins])
    low = np.sort(grey)[int(0.05 * len(grey)) - 1]
    texture = left_in > 0.2 and lower_median(grey) - low >= 0.9
    if texture:
        quiet = grey <= low + 0.9
        level, spectrum = plain_levels(squares[:, :, quiet], bins[quiet])
        threshold = threshold.clip(max=5)
    return {
        "level": level, "spectrum": spectrum, "threshold": threshold.clip(1), "left_in": left_in, "texture": texture,
    }  # fmt: skip


def pair(height: int, width: int, textured: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy picture and an output; ``textured``: with uneven texture, most of which the output has lost."""
    clean = torch.linspace(20, 235, width).expand(1, 3, height, width) + 0.5 * draws(1, 3, height, width, seed=1)
    noise = 4 * draws(1, 3, height, width, seed=2)
    if not textured:
        return clean + noise, clean
    blotches = torch.exp(1.5 * draws(1, 1, -(-height // 16), -(-width // 16), seed=3)).repeat_interleave(16, 2)
    texture = 8 * draws(1, 1, height, width, seed=4) * blotches.repeat_interleave(16, 3)[..., :height, :width]
    return clean + texture + 0.1 * noise, clean + texture / 3


@pytest.mark.parametrize("above", [0, 1])
@pytest.mark.parametrize("textured", [False, True])
@pytest.mark.parametrize(("most", "step"), [(2**14, 4), (500, 8), (120, 16)])
def test_the_estimate_is_what_the_rule_says(
    above: int, textured: bool, most: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a picture that has more blocks than are looked at: then of those 8 or 16 pixels apart.

    With the brightness among the frequencies it is chance whether texture seems to follow the output.
    """
    monkeypatch.setattr(block_noise, "_MAX_SAMPLED", most)
    kept = kept_frequencies(above, CPU)
    noisy, clean = pair(100, 204, textured)  # 1275 lots of 4 x 4 pixels
    found, expected = BlockNoise.estimate(noisy, clean, kept), plain_estimate(noisy, clean, kept.numpy(), step)
    assert found is not None and torch.equal(found.kept, kept)
    assert above == 0 or expected["texture"] == textured
    for name in ("level", "spectrum", "threshold"):
        np.testing.assert_allclose(getattr(found, name).numpy(), expected[name], rtol=2e-3, err_msg=name)
    assert found.left_in == pytest.approx(expected["left_in"], rel=2e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "enough"),
    [((68, 68), True), ((67, 68), False), ((68, 67), False), ((8, 1028), True), ((8, 1027), False), ((7, 3000), False),
     ((3000, 7), False), ((1028, 8), True)],
)  # fmt: skip
def test_256_blocks_are_enough(size: tuple[int, int], enough: bool) -> None:
    assert (BlockNoise.estimate(*pair(*size), kept_frequencies(1, CPU)) is not None) == enough


@pytest.mark.parametrize("step", [4, 8, 12])
@pytest.mark.parametrize("pixels", [1, 60 * 13, 60 * 24, 2**18])
def test_samples_in_strips_are_those_of_the_whole(step: int, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of one row of blocks, of some, and one of all."""
    monkeypatch.setattr(block_noise, "STRIP_PIXELS", pixels)
    noisy, clean = pair(65, 60)
    residual, content = _sample(noisy, clean, step)
    np.testing.assert_allclose(residual.numpy(), plain_blocks(noisy - clean, step), atol=1e-2)
    np.testing.assert_allclose(content.numpy(), plain_blocks(clean, step), atol=1e-2)


@pytest.mark.parametrize(
    ("height", "strips"),
    [(8, [8]), (31, [31]), (32, [32]), (39, [32]), (40, [32, 8]), (65, [32, 32]), (72, [32, 32, 8])],
)
def test_strips_bound_the_memory(height: int, strips: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """To 2^18 pixels, which are 32 rows of 8192. Of blocks 8 pixels apart, strips share no row."""
    seen: list[int] = []

    def noted(x: torch.Tensor, step: int) -> torch.Tensor:
        seen.append(x.shape[-2])
        return torch.zeros(3, 64, 1, 1)

    monkeypatch.setattr(block_noise, "dct_blocks", noted)
    picture = torch.zeros(1, 3, height, 8192)
    _sample(picture, picture, 8)
    assert seen[::2] == seen[1::2] == strips


def test_levels_of_intensities_that_are_rare_are_those_of_the_nearest() -> None:
    """31 blocks are too few, 32 are enough; of two that are as near, the darker one."""
    numbers = {2: 40, 3: 31, 6: 32, 9: 200, 14: 5}
    bins = torch.cat([torch.full((number,), index) for index, number in numbers.items()])
    squares = (draws(3, 64, len(bins)) * bins.sqrt() * torch.linspace(3, 0.2, 64)[:, None]).square()
    level, spectrum = _levels_and_spectrum(squares, bins)
    expected = plain_levels(squares.numpy(), bins.numpy())
    np.testing.assert_allclose(level.numpy(), expected[0], rtol=1e-4)
    np.testing.assert_allclose(spectrum.numpy(), expected[1], rtol=1e-4)
    assert [int((level[0] == level[0, index]).sum()) for index in (2, 6, 9)] == [5, 3, 8]


def test_of_few_blocks_the_most_frequent_intensity_is_known() -> None:
    bins = torch.tensor([4] * 6 + [8] * 9)
    squares = draws(3, 64, 15).square() + bins
    level, _ = _levels_and_spectrum(squares, bins)
    np.testing.assert_allclose(level.numpy(), plain_levels(squares.numpy(), bins.numpy())[0], rtol=1e-4)
    assert (level == level[:, 8:9]).all()


def test_nothing_at_all_has_the_least_level_and_spectrum() -> None:
    level, spectrum = _levels_and_spectrum(torch.zeros(3, 64, 50), torch.full((50,), 7))
    torch.testing.assert_close(level, torch.full((3, 16), 1e-4))
    torch.testing.assert_close(spectrum, torch.full((3, 64), 1e-6))


def test_the_flattest_of_every_intensity() -> None:
    """Two fifths of 203 and of 100; 32 of 79, as two fifths are fewer; and all of 7."""
    bins = torch.tensor([3] * 203 + [0] * 100 + [15] * 79 + [9] * 7)[torch.randperm(389)]
    activity = draws(389).abs()
    found = _flattest(bins, activity).tolist()
    assert found == plain_flattest(bins.numpy(), activity.numpy())
    assert torch.bincount(bins[found], minlength=16)[[0, 3, 9, 15]].tolist() == [40, 81, 7, 32]


@pytest.mark.parametrize(
    ("left_in", "spread", "is_texture"),
    [(0.21, 0.95, True), (0.2, 0.95, False), (0.21, 0.85, False), (-0.5, 2.0, False), (float("nan"), 2.0, False),
     (9.0, 2.0, True)],
)  # fmt: skip
def test_texture_was_taken_off_if_it_follows_the_output_and_is_uneven(
    left_in: float, spread: float, is_texture: bool
) -> None:
    """Of 100 blocks with log energies from 0 to twice the spread: the fifth least one is ``spread`` below the 50th."""
    grey = torch.linspace(0, 1, 100) * spread / (45 / 99)
    energy = torch.stack([grey.exp(), torch.ones(100), torch.ones(100)])
    found = _quietest(energy, left_in)
    assert (found is not None) == is_texture
    if is_texture:
        assert found.tolist() == [index for index in range(100) if grey[index] <= grey[4] + 0.9]


def test_blocks_without_energy_are_the_quietest() -> None:
    energy = torch.ones(3, 100)
    energy[0, [7, 8, 9, 20, 30, 90]] = 0
    assert _quietest(energy, 1.0).tolist() == [7, 8, 9, 20, 30, 90]
    # What is below 1e-6 counts as 1e-6, and 0.9 is a factor of 2.46.
    energy[0, [7, 8, 9, 20, 30, 90, 91]] = torch.tensor([1e-9, 1e-8, 1e-7, 1e-7, 1e-7, 2.4e-6, 2.5e-6])
    assert _quietest(energy, 1.0).tolist() == [7, 8, 9, 20, 30, 90]


def test_sixteen_intervals_of_the_intensity() -> None:
    means = torch.tensor([-20.0, 0, 15.9, 16, 127.9, 128, 239.9, 240, 255, 300])
    assert _bin(means).tolist() == [0, 0, 0, 1, 7, 8, 14, 15, 15, 15]


def test_levels_are_linear_between_the_middles_of_the_intervals() -> None:
    level = draws(3, 16).square()
    mean = torch.linspace(-10, 270, 561).view(3, 187)
    expected = [np.interp(mean.numpy(), 16 * np.arange(16) + 8, channel.numpy()) for channel in level]
    np.testing.assert_allclose(_interpolated(level, mean).numpy(), np.stack(expected), atol=1e-5)


@pytest.mark.parametrize(("q", "expected"), [(0.0, 0), (0.05, 0), (0.149, 1), (0.25, 4), (0.999, 18), (1.0, 19)])
def test_quantiles_are_values(q: float, expected: int) -> None:
    """The int(q 20)-th of twenty, and at least the first."""
    values = torch.arange(20.0)[torch.randperm(20, generator=torch.Generator().manual_seed(0))]
    assert _quantile(values, q) == expected


@pytest.mark.parametrize("above", [0, 1, 2, 5, 6])
def test_frequencies_above_some_half_waves(above: int) -> None:
    expected = [above == 0 or max(u, v) > above for u in range(8) for v in range(8)]
    assert kept_frequencies(above, CPU).tolist() == expected


@pytest.mark.parametrize("size", [(24, 32), (25, 31), (26, 33), (27, 34)])
def test_what_noise_does_not_explain_is_a_share_of_every_coefficient(size: tuple[int, int]) -> None:
    """Sizes with every remainder of 4. Around the picture is its reflection; the blocks fade into each other."""
    height, width = size
    kept = kept_frequencies(1, CPU)
    level, spectrum = 5 + draws(3, 16, seed=5).square(), 0.5 + draws(3, 64, seed=6).square()
    threshold = torch.tensor([1.5, 2.0, 2.5])
    noise = BlockNoise(level, spectrum, threshold, kept, 0.0)
    residual = 4 * draws(1, 3, height, width, seed=7)
    clean = 128 + 90 * draws(1, 3, height, width, seed=8).clamp(-1, 1)
    pads = ((0, 0), (0, 0), (0, -height % 4), (4, 4 + -width % 4))
    around, content = (np.pad(x.double().numpy(), pads, mode="reflect") for x in (residual, clean))
    rows, columns = range(0, around.shape[2] - 7, 4), range(0, around.shape[3] - 7, 4)
    coefficients = plain_blocks(torch.from_numpy(around), 4)
    means = [content[0, :, top : top + 8, left : left + 8].mean() for top in rows for left in columns]
    variance = np.stack([np.interp(means, 16 * np.arange(16) + 8, channel.numpy()) for channel in level])
    variance = variance[:, None] * spectrum.numpy()[:, :, None]
    pooled = plain_pooled(coefficients**2 / variance)
    share = (1 - threshold.numpy()[:, None, None] / pooled).clip(0) * kept.numpy()[None, :, None]
    assert 0.05 < (share > 0).mean() < 0.95
    fade = np.sin(np.pi * (np.arange(8) + 0.5) / 8) ** 2
    expected = np.zeros(around.shape[1:])
    for number, (top, left) in enumerate((top, left) for top in rows for left in columns):
        part = (coefficients * share)[:, :, number].reshape(3, 8, 8)
        expected[:, top : top + 8, left : left + 8] += idctn(part, axes=(1, 2), norm="ortho") * fade[:, None] * fade
    expected = np.einsum("oc,ohw->chw", OPPONENT, expected)[:, :height, 4 : 4 + width]
    np.testing.assert_allclose(noise.significant(residual, clean)[0].numpy(), expected, atol=2e-3)
