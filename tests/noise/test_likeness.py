"""CameraTable like those of given pictures: the features, and that the noise of a known camera is found again."""

import math
from dataclasses import fields, replace

import pytest
import torch

from atbsn.noise.camera import RandomCamera
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.likeness import MIN_TRIED, _descendants, cameras_like, distance, features
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
