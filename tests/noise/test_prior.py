"""The population of cameras: its numbers against the facts they come from, and what is refused."""

import pytest
import torch
from pydantic import ValidationError

from atbsn.models.renoise import RenoiseModel
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.draw import log_uniform, normal, one_of
from atbsn.noise.prior import CameraPrior
from atbsn.registry.build import check_arguments
from atbsn.utils.errors import UserError


def test_colour_matrices_are_those_of_real_cameras() -> None:
    """583 cameras of LibRaw's table; 02 is drawn wider, for phones."""
    torch.manual_seed(0)
    matrices = CameraTable.drawn(CameraPrior(), torch.empty(4000, 1, 1, 1)).colour_matrix()
    torch.testing.assert_close(matrices.sum(dim=2), torch.ones(4000, 3), atol=1e-5, rtol=0)
    places = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
    off = torch.stack([matrices[:, row, column] for row, column in places], dim=1)
    assert off.mean(0).tolist() == pytest.approx([-0.476, -0.150, -0.167, -0.407, 0.013, -0.474], abs=0.02)
    assert off.std(0).tolist() == pytest.approx([0.322, 0.2, 0.088, 0.108, 0.032, 0.131], rel=0.15)
    assert torch.linalg.cond(matrices).max() < 30
    assert (matrices[:, 0, 2] > 0.1).float().mean() > 0.05  # red and blue share noise, as SIDD's do


def test_read_noise_is_that_of_433_cameras() -> None:
    """b / a^2 over all ISOs has 5, 25, 50, 75, 95 % at 6, 28, 96, 291, 1511, and about 15 at a = 6e-4 (ISO 25,600)."""
    prior, x = CameraPrior(), torch.zeros(20000, 1, 1, 1)
    torch.manual_seed(0)

    def ratio(shot: torch.Tensor) -> torch.Tensor:
        read = prior.read_slope * shot.log() + prior.read_offset + prior.read_spread * normal(x)
        return (read.exp() / shot.square()).flatten()

    weak = ratio(log_uniform(x, 1e-6, 1e-3)).quantile(torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]))
    facts = torch.tensor([6.0, 28, 96, 291, 1511])
    assert (weak.log() - facts.log()).abs().max() < 1
    strong = ratio(torch.full_like(x, 3e-3))
    assert 1 < strong.median() < 10  # SIDD fits 1 to 10 at a = 1.7e-3 to 6e-3


def test_smoothing_is_weaker_in_one_direction_by_the_anisotropy_at_most() -> None:
    torch.manual_seed(0)
    drawn = CameraTable.drawn(CameraPrior(anisotropy=0.4), torch.empty(2000, 1, 1, 1))
    both = torch.stack((drawn.across, drawn.along))
    assert both.amax(dim=0).eq(1).all() and both.min() >= 0.6
    assert both.amin(dim=0).mean().item() == pytest.approx(0.8, abs=0.01)
    assert (drawn.across < 1).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_shares_are_those_of_cameras() -> None:
    prior = CameraPrior()
    bilinear, edges, malvar, none = (share / sum(prior.demosaicing) for share in prior.demosaicing)
    assert bilinear <= 0.1 and 0.3 <= edges <= 0.4 and 0.3 <= malvar <= 0.5 and 0.05 <= none <= 0.15
    assert 0.25 <= prior.clipped <= 0.4 and prior.anisotropy == 0.4
    assert prior.shot_noise == (7e-5, 3e-2) and prior.balance == (1.2, 2.6)
    assert 0.05 <= prior.banding <= 0.2 and 0 < prior.hot_pixels <= 0.1
    torch.manual_seed(0)
    drawn = one_of(torch.zeros(8000, 1, 1, 1), prior.demosaicing).flatten().bincount(minlength=4) / 8000
    assert drawn.tolist() == pytest.approx([bilinear, edges, malvar, none], abs=0.02)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shot_noise": [4e-2, 3e-4]}, "its end is below its beginning"),
        ({"demosaicing": [0, 0, 0, 0]}, "all shares are 0"),
        ({"processed": 1.5}, "camera.processed"),
        ({"shotnoise": [1e-4, 1e-3]}, "did you mean 'shot_noise'"),
        ({"shot_noise": 3e-4}, "camera.shot_noise"),
    ],
)
def test_wrong_priors_are_refused_with_their_path(changes: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        check_arguments(RenoiseModel, {"camera": changes}, exclude=("net",))
    assert said in str(error.value)


def test_a_prior_cannot_be_changed_and_refuses_what_python_gives_it() -> None:
    prior = CameraPrior()
    with pytest.raises(ValidationError):
        prior.processed = 0.1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        CameraPrior(processed=-1.0)


def test_options_reach_the_camera() -> None:
    given = check_arguments(RenoiseModel, {"camera": {"processed": 0, "shot_noise": [3e-4, 4e-2]}}, exclude=("net",))
    assert given["camera"].processed == 0 and given["camera"].shot_noise == (3e-4, 4e-2)
    assert given["camera"].compressed == CameraPrior().compressed
