"""CameraTable like those of given pictures: the features, and that the noise of a known camera is found again."""

import math
from dataclasses import fields, replace

import pytest
import torch

from atbsn.noise.camera import RandomCamera
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.likeness import MIN_TRIED, _descendants, _flattest, cameras_like, distance, features
from atbsn.noise.prior import CameraPrior

PRIOR = CameraPrior(
    processed=0.0, compressed=0.0, toned=0.0, luma_alone=0.0, blotches=0.0, banding=0.0, hot_pixels=0.0,
    demosaicing=(0.0, 0.0, 1.0, 0.0), target="scene",
)  # fmt: skip
BARE = PRIOR.model_copy(
    update={
        "exposure": (1.0, 1.0), "light": (1.0, 1.0), "softened": 0.0, "recoloured": 0.0, "noiseless": 0.0, "grey": 0.0,
        "patterned": 0.0, "enlarged": 0.0,
    }
)  # fmt: skip


def taken(cameras: CameraTable, seed: int, side: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    row = torch.linspace(40, 200, side).expand(side, side)
    scene = torch.stack([row, row.T, 240 - row]).expand(len(cameras), 3, side, side)
    return RandomCamera(BARE).taken(scene, cameras)


def one_camera(shot: float) -> CameraTable:
    torch.manual_seed(3)
    drawn = CameraTable.drawn(PRIOR, torch.empty(1, 1, 1, 1))
    return replace(drawn, shot=torch.full_like(drawn.shot, shot), read=torch.full_like(drawn.read, 3 * shot**2))


def test_the_same_camera_is_near_and_another_far() -> None:
    camera = one_camera(8e-3)
    first, second = taken(camera, 0), taken(camera, 1)
    other = taken(one_camera(2e-3), 2)
    wanted, again, weaker = (features((n - c)[None], c[None])[0] for n, c in (first, second, other))
    assert distance(again[None], wanted) < 1
    assert distance(weaker[None], wanted) > 3


def test_the_level_of_a_known_camera_is_found() -> None:
    camera = one_camera(6e-3)
    noisy, clean = taken(camera, 0)
    done: list[int] = []
    found = cameras_like([(noisy[0], clean[0])], PRIOR, keep=2, each=lambda: done.append(1), tried=154)
    assert len(found) == 2 and done == [1]
    wanted = features((noisy - clean)[None], clean[None])[0]
    first = taken(found[torch.tensor([0])], 5)
    start = taken(CameraTable.drawn(PRIOR, torch.empty(16, 1, 1, 1)), 6)
    ours = distance(features((first[0] - first[1])[None], first[1][None]), wanted)
    others = distance(features((start[0] - start[1])[:, None], start[1][:, None]), wanted)
    assert ours < 0.5 * others.median() and ours < 2.5
    torch.testing.assert_close(cameras_like([(noisy[0], clean[0])], PRIOR, keep=2, tried=154).shot, found.shot)


@pytest.mark.parametrize("tried", [MIN_TRIED, 100])
def test_so_many_cameras_are_tried(monkeypatch: pytest.MonkeyPatch, tried: int) -> None:
    noisy, clean = taken(one_camera(6e-3), 0, side=64)
    counted: list[int] = []
    original = RandomCamera.taken

    def counting(self: RandomCamera, pictures: torch.Tensor, cameras: CameraTable) -> tuple[torch.Tensor, torch.Tensor]:
        counted.append(len(cameras))
        return original(self, pictures, cameras)

    monkeypatch.setattr(RandomCamera, "taken", counting)
    assert len(cameras_like([(noisy[0], clean[0])], PRIOR, tried=tried)) == 8
    assert sum(counted) == tried  # one patch each


def test_features_of_white_noise_that_is_twice_as_strong_in_the_dark() -> None:
    """In units of their tolerances: levels, no correlation, ..., log(4 / 2) / 0.1 for the slope, no skewness."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.full((1, 4, 3, 64, 64), 40.0)
    clean[..., 32:] = 200
    noise = torch.where(clean < 100, 4.0, 2.0) * torch.randn(clean.shape, generator=generator)
    (found,) = features(noise, clean)
    assert float(found[-4]) * 0.1 == pytest.approx(math.log(2), abs=0.05)
    assert (found[-3:] * 0.1).abs().max() < 0.1
    assert found[:3].exp().pow(0.05).tolist() == pytest.approx([10**0.5] * 3, rel=0.05)
    assert (found[3:15] * 0.03).abs().max() < 0.06


def test_descendants_lie_off_their_parents_along_differences() -> None:
    """By 0.3 to 0.9 of the difference of two others, or of the ratio where a number is positive."""
    torch.manual_seed(0)
    parents = CameraTable.drawn(CameraPrior(), torch.empty(2, 1, 1, 1))
    parents = replace(
        parents,
        shot=parents.shot.new_tensor([1e-3, 4e-3]).view(2, 1, 1, 1),
        contrast=parents.shot.new_tensor([0.4, 0.7]).view(2, 1, 1, 1),
        across=torch.tensor([0.95, 0.3]).view(2, 1, 1, 1),
        quality=torch.tensor([70.0, 90.0]).view(2, 1, 1, 1),
        clipped=torch.tensor([0.0, 1.0]).view(2, 1, 1, 1),
        blotch_level=torch.tensor([0.0, 0.5]).view(2, 1, 1, 1),
    )
    parents = parents[torch.arange(2).repeat(8)]
    children = _descendants(parents)
    own = parents[torch.arange(16).repeat(5)]
    assert len(children) == len(own)
    for name in ("clipped", "demosaicing", "banding_down", "subsampled"):
        assert torch.equal(getattr(children, name), getattr(own, name))
    for name, difference in (("contrast", 0.3), ("quality", 20.0)):
        steps = (getattr(children, name) - getattr(own, name)).flatten() / difference
        assert all(step == 0 or 0.29 <= abs(step) <= 0.91 for step in steps.tolist()), name
        assert steps.min() < 0 < steps.max()
    steps = (children.shot / own.shot).log().flatten() / torch.tensor(4.0).log()
    assert all(abs(step) < 1e-5 or 0.29 <= abs(step) <= 0.91 for step in steps.tolist())
    assert len(children.matrix.flatten(1).unique(dim=0)) > 4
    assert children.across.max() == 1 and children.blotch_level.min() == 0
    assert all(getattr(children, field.name).isfinite().all() for field in fields(CameraTable))


def test_a_camera_without_a_jpeg_and_its_descendants_have_none() -> None:
    torch.manual_seed(1)
    parents = CameraTable.drawn(CameraPrior(), torch.empty(2, 1, 1, 1))
    parents = replace(parents, quality=torch.tensor([0.0, 80.0]).view(2, 1, 1, 1))
    assert _descendants(parents).quality.flatten().tolist() == [0.0, 80.0] * 5


def test_pictures_without_a_usable_patch_are_left_out_or_an_error() -> None:
    noisy, clean = taken(one_camera(6e-3), 0, side=64)
    black = torch.zeros(3, 64, 64)
    with pytest.raises(ValueError, match="saturated"):
        cameras_like([(black, black)], PRIOR)
    with pytest.raises(ValueError, match="at least 46"):
        cameras_like([(noisy[0], clean[0])], PRIOR, tried=45)
    with pytest.raises(ValueError, match="64x64"):
        cameras_like([(noisy[0, :, :32], clean[0, :, :32])], PRIOR)


def wave(along: int, amplitude: float = 1.0, bend: float = 0.0) -> torch.Tensor:
    """(64, 64): a cosine of so many periods in a row, and ``bend`` times one of twice as many, which skews it."""
    angle = 2 * math.pi * along * torch.arange(64) / 64
    return (amplitude * (angle.cos() + bend * (2 * angle).cos())).expand(64, 64)


def test_features_of_waves_are_known_exactly() -> None:
    """Two cameras, two patches each. The first has one wave in all channels, on patches 1 and 3 times as strong; the
    second has waves that differ between the channels, of which blue is skewed."""
    window = 2 / 3 + math.cos(2 * math.pi / 64) / 3  # what a Hann window leaves of the correlation of neighbours
    clean = torch.full((2, 2, 3, 64, 64), 50.0)
    clean[:, 1] = 150.0
    noise = torch.empty_like(clean)
    noise[0, 0], noise[0, 1] = wave(16), wave(16, 3)
    noise[1, :, 0], noise[1, :, 1], noise[1, :, 2] = wave(8, 2), -wave(8, 2), wave(8, 1, bend=0.5)
    first, second = features(noise, clean)
    assert len(first) == 3 + 9 + 3 + 4 + 1 + 3
    levels, lags, between, power, slope, skewness = first.split([3, 9, 3, 4, 1, 3])
    assert (levels * 0.05).tolist() == pytest.approx([math.log(5 / 2) / 2] * 3, abs=2e-3)
    assert (lags * 0.03).tolist() == pytest.approx([0] * 3 + [window] * 3 + [0] * 3, abs=2e-3)
    assert (between * 0.03).tolist() == pytest.approx([1] * 3, abs=2e-3)
    assert (power * 0.02).tolist() == pytest.approx([0, 1, 0, 0], abs=2e-3)
    assert float(slope * 0.1) == pytest.approx(math.log((0.5 + 0.01) / (4.5 + 0.01)) / 2, abs=1e-3)
    assert skewness.abs().max() < 1e-2
    levels, lags, between, power, slope, skewness = second.split([3, 9, 3, 4, 1, 3])
    blue = 0.5 + 0.125
    assert (levels * 0.05).tolist() == pytest.approx([math.log(2) / 2] * 2 + [math.log(blue) / 2], abs=2e-3)
    along = math.cos(math.pi / 4) * window
    assert (lags[:2] * 0.03).tolist() == pytest.approx([along] * 2, abs=2e-3)
    assert float(lags[2] * 0.03) == pytest.approx(0.5 * along / blue, abs=2e-3)
    assert (lags[6:8] * 0.03).tolist() == pytest.approx([along * window] * 2, abs=2e-3)
    cross = 2 * 0.5 / (2 * blue) ** 0.5
    assert (between * 0.03).tolist() == pytest.approx([-1, -cross, cross], abs=3e-3)
    total = 2 + 2 + blue
    assert (power * 0.02).tolist() == pytest.approx([4.5 / total, 0.125 / total, 0, 0], abs=2e-3)
    assert float(slope) == pytest.approx(0, abs=1e-4)
    assert (skewness * 0.1).tolist() == pytest.approx([0, 0, 0.75 * 0.5 / blue**1.5], abs=2e-3)


def test_diagonal_correlations_are_means_over_both_diagonals() -> None:
    """A wave along one of them: 0 one way, and all that the window leaves the other."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    noise = torch.cos(math.pi / 4 * (rows + columns)).expand(1, 1, 3, 64, 64)
    (found,) = features(noise, torch.full_like(noise, 90.0))
    window = 2 / 3 + math.cos(2 * math.pi / 64) / 3
    straight, diagonal = math.cos(math.pi / 4) * window, window**2 / 2
    assert (found[3:12] * 0.03).tolist() == pytest.approx([straight] * 6 + [diagonal] * 3, abs=2e-3)


@pytest.mark.parametrize(("down", "along", "band"), [(0, 9, 0), (0, 17, 1), (26, 0, 2), (30, 20, 3)])
def test_power_is_that_of_the_bands_of_a_fingerprint(down: int, along: int, band: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    noise = torch.cos(2 * math.pi / 64 * (down * rows + along * columns)).expand(1, 1, 3, 64, 64)
    (found,) = features(noise, torch.full_like(noise, 90.0))
    assert (found[15:19] * 0.02).tolist() == pytest.approx([float(number == band) for number in range(4)], abs=2e-3)


def test_features_of_no_noise_are_finite() -> None:
    found = features(torch.zeros(1, 1, 3, 64, 64), torch.full((1, 1, 3, 64, 64), 90.0))
    assert found.isfinite().all()
    assert (found[0, :3] * 0.05).tolist() == pytest.approx([math.log(1e-3) / 2] * 3, abs=1e-4)


def test_the_distance_is_a_root_mean_square() -> None:
    found = distance(torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, 0]]), torch.tensor([0.0, 0, 0, 2]))
    assert found.tolist() == pytest.approx([((1 + 4 + 9 + 4) / 4) ** 0.5, 1])


def patches(kinds: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A pair with one patch of 64 x 64 for each letter, side by side, with 5 pixels more at the right and below.

    A digit: grey 100 with stripes of so many grey values, down or across by turns; b: black in 55 % of its samples;
    w: so white; B, W: in 45 %; n: noise too weak to be any; m: hardly enough.
    """
    clean = torch.full((3, 69, 64 * len(kinds) + 5), 100.0)
    noise = torch.full_like(clean, 2.0)
    noise[:, ::2] = -2
    for place, kind in enumerate(kinds):
        here = clean[:, :64, 64 * place : 64 * place + 64]
        if kind.isdigit():
            (here if place % 2 else here.transpose(1, 2))[..., ::2] += int(kind)
        elif kind in "bwBW":
            part = here[:, : 35 if kind in "bw" else 29]
            part.fill_(4.0 if kind in "bB" else 251.0)
        else:
            noise[:, :64, 64 * place : 64 * place + 64] *= 0.29 / 2 if kind == "n" else 0.32 / 2
    return clean + noise, clean


def chosen(kinds: str) -> list[int]:
    """Which patches of ``patches(kinds)`` are chosen, by their places, in order."""
    noisy, clean = patches(kinds)
    clean[0, 3, ::64] += 0.001 * torch.arange(len(range(0, clean.shape[2], 64)))  # to know them again
    found = _flattest(noisy, clean)
    assert found is not None and found[0].shape == found[1].shape == (len(found[1]), 3, 64, 64)
    places = []
    for own_noisy, own_clean in zip(*found, strict=True):
        for place in range(len(kinds)):
            here = (..., slice(0, 64), slice(64 * place, 64 * place + 64))
            if torch.equal(own_clean, clean[here]) and torch.equal(own_noisy, noisy[here]):
                places.append(place)
    assert len(places) == len(found[1])
    return places


def test_the_four_patches_with_the_least_detail_are_taken() -> None:
    """Whichever way it runs, the flattest first."""
    assert chosen("5941037") == [4, 3, 5, 2]
    assert chosen("96") == [1, 0]


def test_patches_that_clipping_spoils_or_that_have_no_noise_are_left_out() -> None:
    """Black ends at 4 and white begins at 251, in more than half of a patch; rounding alone has a deviation of 0.29."""
    assert chosen("b9w8") == [3, 1] and set(chosen("B9W8")) == {0, 1, 2, 3}
    assert chosen("n9m8") == [2, 3, 1]
    assert _flattest(*patches("bwn")) is None


def test_the_clean_picture_of_64_pixels_is_large_enough() -> None:
    noisy, clean = patches("9")
    assert _flattest(noisy[:, :64, :64], clean[:, :64, :64]) is not None
    with pytest.raises(ValueError, match="69x63 pixels: at least 64x64 are needed"):
        _flattest(noisy[..., :63], clean[..., :63])


def by_shot(camera: RandomCamera, pictures: torch.Tensor, cameras: CameraTable) -> tuple[torch.Tensor, torch.Tensor]:
    """In place of ``RandomCamera.taken``: a wave whose amplitude is a thousand times the shot noise."""
    return pictures + 1000 * cameras.shot * wave(16), pictures


def test_the_nearest_are_kept_and_searched_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where noise has one number, 616 cameras come within a hundredth of it, the nearest first."""
    monkeypatch.setattr(RandomCamera, "taken", by_shot)
    clean = torch.full((3, 64, 64), 90.0)
    state = torch.get_rng_state()
    found = cameras_like([(clean + 12 * wave(16), clean)], CameraPrior(), keep=3)
    assert torch.equal(torch.get_rng_state(), state)
    off = (1000 * found.shot.flatten() / 12).log().abs()
    assert len(found) == 3 and off.max() < 0.01 and off.diff().min() >= 0


def test_every_pair_has_cameras_of_its_own_and_a_seed_repeats_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomCamera, "taken", by_shot)
    clean = torch.full((3, 64, 64), 90.0)
    pairs = [(clean + amplitude * wave(16), clean) for amplitude in (12.0, 2.0)]
    found = cameras_like(pairs, CameraPrior(), tried=100)
    assert len(found) == 16
    off = (1000 * found.shot.flatten() / torch.tensor([12.0] * 8 + [2.0] * 8)).log().abs()
    assert off[0] < 0.1 and off[8] < 0.1 and off[:8].diff().min() >= 0 and off[8:].diff().min() >= 0
    again, other = (cameras_like(pairs[:1], CameraPrior(), tried=100, seed=seed).shot for seed in (0, 1))
    assert torch.equal(again, found.shot[:8]) and not torch.equal(other, again)


def test_only_the_noise_of_cameras_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes the picture itself is left out of the prior, whatever it is."""
    priors: list[CameraPrior] = []

    def noting(camera: RandomCamera, *both: object) -> tuple[torch.Tensor, torch.Tensor]:
        priors.append(camera.prior)
        return by_shot(camera, *both)  # type: ignore[arg-type]

    monkeypatch.setattr(RandomCamera, "taken", noting)
    clean = torch.full((3, 64, 64), 90.0)
    prior = CameraPrior(target="scene", toned=0.3)
    cameras_like([(clean + wave(16), clean)], prior, tried=MIN_TRIED)
    changes = {name: getattr(priors[0], name) for name in type(prior).model_fields}
    plain = {name: getattr(prior, name) for name in type(prior).model_fields}
    off = ("softened", "recoloured", "noiseless", "grey", "patterned", "enlarged")
    assert changes == plain | dict.fromkeys(off, 0.0) | {"exposure": (1.0, 1.0), "light": (1.0, 1.0)}


def test_steps_of_descendants_have_bounds() -> None:
    """0.3 to 0.9 of a difference; smoothing that is left stays within 0 and 1, a quality within 30 and 100."""
    torch.manual_seed(0)
    parents = CameraTable.drawn(CameraPrior(), torch.empty(2, 1, 1, 1))
    ends = {
        name: torch.tensor([0.02, 0.98]).view(2, 1, 1, 1)
        for name in ("luma_unsmoothed", "colour_unsmoothed", "across", "along")
    }
    parents = replace(
        parents,
        quality=torch.tensor([31.0, 99.0]).view(2, 1, 1, 1),
        matrix=torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 6, 1, 1),
        read=torch.tensor([1e-6, 1e-4]).view(2, 1, 1, 1),
        luma_gain=torch.tensor([0.8, 1.1]).view(2, 1, 1, 1),
        **ends,
    )
    own = parents[torch.arange(2).repeat(200)]
    children = _descendants(own)
    own = own[torch.arange(400).repeat(5)]
    for name, low, high in (
        ("quality", 30, 100), ("across", 0, 1), ("along", 0, 1), ("luma_unsmoothed", 0, 1), ("colour_unsmoothed", 0, 1)
    ):  # fmt: skip
        values = getattr(children, name)
        assert values.min() == low and values.max() == high, name
    for moved, difference in (
        ((children.matrix - own.matrix)[:, 0], 2.0),
        ((children.read / own.read).log(), math.log(100)),
        (children.luma_gain - own.luma_gain, 0.3),
    ):
        steps = moved.flatten().abs() / difference
        steps = steps[steps > 1e-4]
        assert 0.3 - 1e-3 <= steps.min() < 0.31 and 0.89 < steps.max() <= 0.9 + 1e-3
