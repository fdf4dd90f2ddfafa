"""The population of cameras: its numbers against the facts they come from, and what is refused."""

from typing import Any

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
def test_wrong_priors_are_refused_with_their_path(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        check_arguments(RenoiseModel, {"camera": changes}, exclude=("net",))
    assert said in str(error.value)


def test_a_prior_cannot_be_changed_and_refuses_what_python_gives_it() -> None:
    prior = CameraPrior()
    with pytest.raises(ValidationError):
        prior.processed = 0.1
    with pytest.raises(ValidationError):
        CameraPrior(processed=-1.0)


def test_options_reach_the_camera() -> None:
    given = check_arguments(RenoiseModel, {"camera": {"processed": 0, "shot_noise": [3e-4, 4e-2]}}, exclude=("net",))
    assert given["camera"].processed == 0 and given["camera"].shot_noise == (3e-4, 4e-2)
    assert given["camera"].compressed == CameraPrior().compressed


def test_without_options_the_cameras_are_those_that_the_shipped_weights_learned_from() -> None:
    """``real``, ``real-large`` and ``fast``: whoever trains them again has the same population."""
    assert CameraPrior().model_dump() == {
        "kind": "auto", "exposure": (0.25, 1.5), "light": (0.8, 1.25), "balance": (1.2, 2.6),
        "matrix_mean": (-0.476, -0.150, -0.167, -0.407, 0.013, -0.474),
        "matrix_std": (0.322, 0.2, 0.088, 0.108, 0.032, 0.131),
        "shot_noise": (7e-5, 3e-2), "read_slope": 1.23, "read_offset": -3.42, "read_spread": 1.05, "clipped": 0.33,
        "banding": 0.15, "banding_level": (0.05, 0.4), "hot_pixels": 0.05, "hot_density": (1e-5, 1e-3),
        "demosaicing": (0.08, 0.36, 0.46, 0.1), "toned": 0.7, "tone_exponent": (0.85, 1.2),
        "tone_contrast": (0.0, 0.6), "processed": 0.5, "luma_smoothing": (0.0, 1.2), "colour_smoothing": (0.0, 2.4),
        "anisotropy": 0.4, "luma_alone": 0.1, "blotches": 0.1, "blotch_level": (0.1, 0.5), "enlarged": 0.08,
        "enlargement": (1.2, 4.0), "compressed": 0.5, "quality": (75.0, 100.0), "softened": 0.6, "softness": (0.4, 1.6),
        "recoloured": 0.3, "noiseless": 0.08, "grey": 0.1, "patterned": 0.15, "target": "mean",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "least", "most", "below", "above"),
    [
        ("shot_noise", 1e-30, 1.0, 0.0, 1.01), ("hot_density", 1e-30, 1.0, 0.0, 1.01),
        ("tone_contrast", -1.0, 1.0, -1.01, 1.01), ("quality", 1.0, 100.0, 0.99, 100.1),
        ("enlargement", 1.0, 4.0, 0.99, 4.01), ("exposure", 1e-30, 1e6, 0.0, float("inf")),
        ("luma_smoothing", 0.0, 1e6, -0.01, float("nan")),
    ],
)  # fmt: skip
def test_ranges_lie_within_what_a_camera_can_do(
    name: str, least: float, most: float, below: float, above: float
) -> None:
    assert getattr(CameraPrior.model_validate({name: (least, most)}), name) == (least, most)
    for wrong in ((below, most), (least, above)):
        with pytest.raises(ValidationError, match=name):
            CameraPrior.model_validate({name: wrong})


def test_a_range_may_be_one_number_and_all_others_go_up() -> None:
    """Each of them is checked; means and shares are no ranges."""
    for name, value in CameraPrior().model_dump().items():
        if name in ("matrix_mean", "matrix_std", "demosaicing") or not isinstance(value, tuple):
            continue
        CameraPrior.model_validate({name: (value[1], value[1])})
        low, high = sorted(value)
        with pytest.raises(ValidationError, match=rf"{name} \[.*\]: its end is below its beginning; exchange the two"):
            CameraPrior.model_validate({name: (high, low)})
    CameraPrior(matrix_mean=(5.0, 4.0, 3.0, 2.0, 1.0, 0.0), demosaicing=(1.0, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("changes", [{"unknown": 1.0}, {"processed": "1"}, {"exposure": (1.0, 1.0, 1.0)}])
def test_what_is_no_field_and_no_number_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CameraPrior.model_validate(changes)
