"""Recorruption: its two pictures are independent, its noise model is learned once and travels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.weights import load_with_metadata, save_weights
from atbsn.data import build_dataset
from atbsn.models import build_model, recorrupt
from atbsn.models.recorrupt import RecorruptModel
from atbsn.models.renoise import RenoiseModel
from atbsn.noise import NoiseModel, calibration
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError

TINY = {"type": "PhotoNet", "widths": [4, 4], "blocks": 1, "middle_blocks": 1}


def white(level: float) -> NoiseModel:
    noise = NoiseModel()
    noise.levels.fill_(level)
    return noise


def flat_folder(folder: Path, level: float, number: int = 4) -> Path:
    rng = np.random.default_rng(0)
    for index in range(number):
        rgb = 120 + 8 * index + rng.normal(0, level, (160, 160, 3))
        write_picture(folder / f"{index}.png", Picture((rgb + 0.5).clip(0, 255).astype(np.uint8)))
    return folder


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_the_two_pictures_have_independent_noise_of_the_same_mean(alpha: float) -> None:
    """A network that repeats its input shows it: its gradient is that of a loss whose target is the clean picture."""
    torch.manual_seed(0)
    seen = []
    model = RecorruptModel(build_arch(TINY), alpha=(alpha, alpha))
    model.noise = white(10)
    model.net.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    clean = torch.full((8, 3, 64, 64), 128.0)
    noisy = clean + 10 * torch.randn_like(clean)
    loss = model.losses({"noisy": noisy, "index": torch.zeros(8, dtype=torch.long)}, torch.tensor(0.0))["loss"]
    first = seen[0] - clean
    assert first.std() == pytest.approx(10 * (1 + alpha**2) ** 0.5, rel=0.02)
    # Untrained, the network is the identity: the error is (a + 1/a) times the drawn noise.
    variance = 1 + (1 + 1 / alpha**2) * 100
    assert loss.item() == pytest.approx(100 * (alpha + 1 / alpha) ** 2 / variance, rel=0.03)
    drawn = (seen[0] - noisy) / alpha
    second = noisy - drawn / alpha - clean
    assert abs((first * second).mean()) < 0.02 * first.std() * second.std()


def test_the_noise_is_estimated_from_the_pictures_alone_and_travels_with_the_state(tmp_path: Path) -> None:
    images = build_dataset({"type": "NoisyFolder", "dataroot": str(flat_folder(tmp_path / "pictures", 6.0))})
    images.preload()
    model = RecorruptModel(build_arch(TINY), num_crops=8)
    model.prepare(images, seed=0)
    levels = model.noise.level(torch.full((1, 3, 1, 1), 130.0))
    torch.testing.assert_close(levels, torch.full((1, 3, 1, 1), 6.0), rtol=0.1, atol=0)
    state = model.own_state()
    assert state and not any(name.startswith("net.") for name in state)
    other: Any = RecorruptModel(build_arch(TINY))
    other.load_own_state(state)
    assert other.metadata() == model.metadata()
    path = tmp_path / "net.pth"
    save_weights(path, model.net.state_dict(), {"network": model.net.options, **model.metadata()})
    _, metadata = load_with_metadata(path)
    assert NoiseModel.from_dict(metadata["noise"]).to_dict() == model.noise.to_dict()


def test_renoising_learns_to_give_what_the_teacher_gave(tmp_path: Path) -> None:
    teacher = build_arch(TINY)
    save_weights(tmp_path / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
    model = RecorruptModel(build_arch(TINY), teacher=str(tmp_path / "teacher.pth"))
    batch = {"noisy": torch.rand(2, 3, 32, 32) * 255, "index": torch.tensor([0, 1])}
    without = model.losses(batch, torch.tensor(0.0))
    assert without["mse"] < 0.1  # no noise yet, and the teacher is the identity: only rounding
    model.noise = white(5)
    assert model.losses(batch, torch.tensor(0.0))["mse"] > 10


@pytest.mark.parametrize(("noise", "takes", "renoises"), [(3, 1.0, False), (12, 1.0, True), (12, 0.0, False)])
def test_the_loss_follows_the_noise_and_what_the_teacher_takes_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: float, takes: float, renoises: bool
) -> None:
    images = build_dataset({"type": "NoisyFolder", "dataroot": str(flat_folder(tmp_path / "pictures", noise))})
    images.preload()
    teacher = build_arch(TINY)
    save_weights(tmp_path / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
    path = str(tmp_path / "teacher.pth")
    model = RecorruptModel(build_arch(TINY), teacher=path, strong=5.0, num_crops=4, own_models=1)
    monkeypatch.setattr(
        type(teacher), "denoise", lambda self, noisy: noisy + takes * (noisy.mean((2, 3), keepdim=True) - noisy)
    )
    model.prepare(images, seed=0)
    assert model.renoise is renoises
    again = RecorruptModel(build_arch(TINY), teacher=path, strong=5.0)
    again.load_own_state(model.own_state())
    assert again.renoise is renoises and again.metadata() == model.metadata()


def test_a_teacher_with_a_blind_spot_gives_the_mean_of_its_family(tmp_path: Path) -> None:
    teacher = build_arch({"type": "ATBSN", "width": 4, "family": [0, 3]})
    save_weights(tmp_path / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
    noisy = torch.rand(2, 3, 64, 64) * 255
    batch = {"noisy": noisy, "index": torch.tensor([0, 1])}
    expected = teacher.forward_teachers(noisy, (0, 3)).mean(0).clamp(0, 255).detach()
    recorrupt = RecorruptModel(build_arch(TINY), teacher=str(tmp_path / "teacher.pth"))
    mse = recorrupt.losses(batch, torch.tensor(0.0))["mse"]  # no noise yet, and the student is the identity
    torch.testing.assert_close(mse, (expected.round() - expected).square().mean(), rtol=1e-3, atol=1e-3)
    seen = []
    renoise: Any = RenoiseModel(build_arch(TINY), teacher=str(tmp_path / "teacher.pth"))
    renoise.camera = lambda pictures: seen.append(pictures) or (pictures, pictures)
    renoise.losses(batch, torch.tensor(0.0))
    torch.testing.assert_close(seen[0], expected)


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match=r"model.alpha: \[2.0, 1.0\] is no range"):
        RecorruptModel(build_arch(TINY), alpha=(2.0, 1.0))


def test_alpha_is_16_at_most() -> None:
    net = build_arch(TINY)
    assert build_model({"type": "RecorruptModel", "alpha": [0.1, 16.0]}, net).alpha == (0.1, 16.0)
    with pytest.raises(UserError, match=r"alpha.*16\.5.*less than or equal to 16"):
        build_model({"type": "RecorruptModel", "alpha": [0.1, 16.5]}, net)


def test_a_blind_spot_network_is_refused() -> None:
    with pytest.raises(UserError, match="has a blind spot; use PhotoNet"):
        RecorruptModel(build_arch({"type": "ATBSN", "width": 2}))


def test_nearly_clean_pictures_of_a_set_are_taken_by_a_random_camera(tmp_path: Path) -> None:
    root = flat_folder(tmp_path / "pictures", 6.0, number=2)
    images = build_dataset({"type": "ReducedFolder", "dataroot": str(root), "factors": [1, 2], "min_side": 32})
    images.preload()
    model: Any = RecorruptModel(build_arch(TINY), num_crops=8)
    model.prepare(images, seed=0)
    assert model.nearly_clean.tolist() == [False, True, False, True] and sorted(model.each) == ["0", "2"]
    seen = []
    model.net.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    batch = {"noisy": torch.full((2, 3, 32, 32), 128.0), "index": torch.tensor([0, 1])}
    assert model.losses(batch, torch.tensor(0.0))["loss"].isfinite()
    assert seen[0][0].std() > 2 and not torch.equal(seen[0][0], seen[0][0].round())
    assert torch.equal(seen[0][1], seen[0][1].round())  # a camera writes whole numbers
    other: Any = RecorruptModel(build_arch(TINY))
    other.load_own_state(model.own_state())
    assert other.mixed and other.nearly_clean.tolist() == model.nearly_clean.tolist()
    for name, noise in model.each.items():
        assert torch.equal(other.each[name].levels, noise.levels)


def test_what_is_for_other_channels_is_refused(tmp_path: Path) -> None:
    teacher = build_arch(TINY)
    save_weights(tmp_path / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
    with pytest.raises(UserError, match=r"teacher\.pth: is for 3 channels, the network for 1; name a teacher"):
        RecorruptModel(build_arch({**TINY, "channels": 1}), teacher=str(tmp_path / "teacher.pth"))
    folder = flat_folder(tmp_path / "pictures", 6.0)
    images = build_dataset({"type": "ReducedFolder", "dataroot": str(folder), "factors": [1, 2], "min_side": 64})
    with pytest.raises(UserError, match=r"network\.channels: 1: the camera .* has 3; leave out these pictures"):
        RecorruptModel(build_arch({**TINY, "channels": 1})).prepare(images, seed=0)


def test_the_weight_is_that_of_recorrupted_patches_alone() -> None:
    """Three times the weight is three times their loss; a nearly clean patch of the batch counts as before."""
    losses = {}
    for weight in (1.0, 3.0):
        for clean in ((False, False), (False, True), (True, True)):
            torch.manual_seed(0)
            model = RecorruptModel(build_arch(TINY), weight=weight)
            model.noise = white(10)
            model.nearly_clean, model.mixed = torch.tensor(clean), any(clean)
            batch = {"noisy": torch.full((2, 3, 32, 32), 128.0), "index": torch.tensor([0, 1])}
            losses[weight, clean] = model.losses(batch, torch.tensor(0.0))["loss"].item()
    assert losses[3.0, (False, False)] == pytest.approx(3 * losses[1.0, (False, False)], rel=1e-5)
    assert losses[3.0, (True, True)] == losses[1.0, (True, True)]
    recorrupted = losses[3.0, (False, True)] - losses[1.0, (False, True)]  # twice its half of the mean
    assert 0 < recorrupted < losses[3.0, (False, True)] and recorrupted == pytest.approx(
        losses[1.0, (False, False)], rel=0.5
    )


def test_nearly_clean_patches_have_the_loss_of_psnr_and_others_that_of_their_variance() -> None:
    """The network is the identity: what the camera does is the error of one, what was drawn that of the other."""
    torch.manual_seed(0)
    model: Any = RecorruptModel(build_arch(TINY), alpha=(1.0, 1.0))
    model.noise = white(10)
    model.nearly_clean, model.mixed = torch.tensor([False, True]), True
    model.camera = lambda pictures: (pictures + 5, pictures)
    noisy = torch.full((2, 3, 64, 64), 128.0)
    losses = [
        model.losses({"noisy": noisy, "index": torch.tensor([index, index])}, torch.tensor(0.0)) for index in (0, 1)
    ]
    assert losses[1]["mse"].item() == pytest.approx(25, rel=1e-3)
    assert losses[1]["loss"].item() == pytest.approx(np.log(26) / 2, rel=1e-3)
    assert losses[0]["loss"].item() == pytest.approx(4 * 100 / (1 + 2 * 100), rel=0.05)


def test_crops_are_spread_over_the_pictures_and_have_the_channels_of_the_network(tmp_path: Path) -> None:
    for index, side in enumerate((300, 200, 40)):
        write_picture(tmp_path / f"{index}.png", Picture(np.full((side, side + 10, 3), 10 * index + 5, np.uint8)))
    images = build_dataset({"type": "NoisyFolder", "dataroot": str(tmp_path)})
    images.preload()
    crops = RecorruptModel(build_arch(TINY))._crops(images, [0, 1, 2], 7, seed=0)
    assert sorted({crop.shape for crop in crops}, reverse=True) == [(256, 256, 3), (200, 200, 3), (40, 40, 3)]
    counts = np.bincount([int(crop.flat[0]) // 10 for crop in crops])
    assert len(crops) == 7 and counts.min() == 2
    grey = RecorruptModel(build_arch(TINY | {"channels": 1}))
    assert [crop.shape for crop in grey._crops(images, [2], 2, seed=0)] == [(40, 40, 1)] * 2
    assert len(grey._crops(images, [0, 1, 2], 2, seed=0)) == 2, "fewer crops than pictures"


def test_each_picture_of_a_small_set_has_a_noise_model_of_a_quarter_of_the_crops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = build_dataset({"type": "NoisyFolder", "dataroot": str(flat_folder(tmp_path, 1.0))})
    images.preload()
    seen = []

    def estimated(crops: Sequence[Any], seed: int) -> Any:
        seen.append((len(crops), seed))
        return white(len(seen))

    monkeypatch.setattr(recorrupt, "estimate", estimated)
    for crops, most, expected in ((12, 3, [12]), (2, 4, [2, 1, 1, 1, 1]), (12, 4, [12, 3, 3, 3, 3])):
        seen.clear()
        model = RecorruptModel(build_arch(TINY), num_crops=crops, own_models=most)
        model.prepare(images, seed=5)
        assert seen == [(number, 5) for number in expected]
        assert sorted(model.each) == [str(number) for number in range(len(expected) - 1)]
    other: Any = RecorruptModel(build_arch(TINY))
    other.load_own_state(model.own_state())
    assert other.nearly_clean.tolist() == [False] * 4 and not other.mixed
    assert [noise.levels.unique().tolist() for noise in (other.noise, *other.each.values())] == [
        [1],
        [2],
        [3],
        [4],
        [5],
    ]


def test_a_network_for_other_channels_learns_from_noisy_pictures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only nearly clean ones need the camera, which has three."""
    images = build_dataset({"type": "NoisyFolder", "dataroot": str(flat_folder(tmp_path, 1.0))})
    images.preload()
    monkeypatch.setattr(recorrupt, "estimate", lambda crops, seed: NoiseModel(1))
    model = RecorruptModel(build_arch(TINY | {"channels": 1}), own_models=1)
    model.prepare(images, seed=0)
    assert model.noise.channels == 1 and not model.mixed


@pytest.mark.parametrize(
    ("level", "taken_off", "renoises"),
    [(8.0, 7.0, True), (8.0, 4.9, True), (8.0, 4.7, False), (4.9, 4.9, False), (5.1, 5.1, True)],
)
def test_strong_noise_that_the_teacher_knows_is_renoised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: float, taken_off: float, renoises: bool
) -> None:
    """Above the level that ``strong`` says, where the teacher takes off more than six tenths of it."""
    teacher = build_arch(TINY)
    save_weights(tmp_path / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
    monkeypatch.setattr(calibration, "estimate", lambda crops, seed: white(level))
    monkeypatch.setattr(calibration, "estimate_with", lambda denoise, crops, seed: white(taken_off))
    images = build_dataset({"type": "NoisyFolder", "dataroot": str(flat_folder(tmp_path / "pictures", 1.0))})
    images.preload()
    model = RecorruptModel(build_arch(TINY), teacher=str(tmp_path / "teacher.pth"), strong=5.0, own_models=1)
    model.prepare(images, seed=0)
    assert model.renoise is renoises and bool(model.renoised) is renoises
    assert model.noise.levels.unique().tolist() == pytest.approx([taken_off if renoises else level])
