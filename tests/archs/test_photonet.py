"""PhotoNet, and what the shipped weights do: outputs that stay what they are, and noises that have to go."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import atbsn
from atbsn.archs.photonet import PhotoNet
from atbsn.archs.shipped import shipped_weights

ANYBODYS = ("real", "fast", "real-large")
"""The weights for any camera."""
GOLDEN = {
    "fast": ((47.107, 182.77, 93.16), (63.341, 85.713, 78.244), (46.305, 70.442, 142.065)),
    "raw": ((53.509, 191.796, 190.011, 102.657), (66.553, 70.989, 87.961, 83.534), (46.895, 79.04, 78.741, 150.518)),
    "real": ((50.677, 186.502, 99.967), (62.073, 80.292, 80.676), (48.397, 78.886, 150.67)),
    "real-large": ((47.793, 179.733, 92.821), (61.186, 76.434, 81.212), (48.437, 77.941, 151.237)),
    "real-strong": ((52.677, 190.582, 99.764), (55.477, 77.391, 92.807), (48.222, 81.177, 151.629)),
    "real-weak": ((52.338, 184.958, 97.561), (63.761, 76.392, 88.728), (44.402, 80.173, 153.331)),
}
"""What the shipped weights make of ``scene()`` at the pixels ``PLACES``: red, green, blue; of raw data green twice."""
PLACES = ((5, 7), (31, 32), (60, 3))
COLOURS = ((90, 120, 160), (200, 60, 60), (40, 160, 60), (60, 60, 200), (200, 200, 60), (240, 240, 240), (30, 30, 30))


def scene(channels: int = 3) -> torch.Tensor:
    """(1, 3, 64, 64): a ramp with an edge, and noise of whole numbers, the same on every machine; of 4 channels, green
    is there twice."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    clean = torch.stack([40 + 2 * x, 200 - 2 * y, 90 + x + y]).float()
    clean[:, :, 32:] *= 0.5
    noise = torch.stack([(73 * x + 151 * y + 199 * channel + 17) ** 3 % 41 - 20 for channel in range(3)])
    return (clean + noise).round().clamp(0, 255)[None, [0, 1, 1, 2] if channels == 4 else [0, 1, 2]]


def flat(colour: tuple[int, ...], side: int = 128) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, side, side).contiguous()


def denoised(net: torch.nn.Module, noisy: torch.Tensor, **how: object) -> torch.Tensor:
    with torch.no_grad():
        return net.denoise(noisy, **how)


def spread(x: torch.Tensor) -> float:
    """The standard deviation inside, away from the edges."""
    x = x[..., 8:-8, 8:-8]
    return (x - x.mean((2, 3), keepdim=True)).std().item()


@pytest.fixture(scope="module", params=ANYBODYS)
def net(request: pytest.FixtureRequest) -> torch.nn.Module:
    return atbsn.load(request.param).eval()


@pytest.mark.parametrize("name", sorted(shipped_weights()))
def test_shipped_weights_give_what_they_gave(name: str) -> None:
    net = atbsn.load(name).eval()
    output = denoised(net, scene(net.channels))
    found = [output[0, :, row, column].tolist() for row, column in PLACES]
    assert name in GOLDEN, f"{name}: its output has not been looked at; if it is right, write {found} into GOLDEN"
    for pixel, golden in zip(found, GOLDEN[name], strict=True):
        assert pixel == pytest.approx(golden, abs=0.05)


def test_every_shipped_file_has_a_card() -> None:
    assert GOLDEN.keys() <= shipped_weights().keys()
    for path in shipped_weights().values():
        assert path.with_suffix(".md").read_text(encoding="utf-8").startswith(f"# {path.stem}\n")


def test_untrained_it_is_the_identity_whatever_the_size() -> None:
    net = PhotoNet(**PhotoNet.example())
    for size in ((17, 23), (64, 64), (1, 40)):
        noisy = torch.rand(1, 3, *size) * 255
        assert torch.equal(net(noisy), noisy)
        torch.testing.assert_close(denoised(net, noisy, shifts=4), noisy, atol=1e-3, rtol=0)


def test_the_first_weights_have_the_standard_deviations_of_their_fans() -> None:
    """He's for the first convolution of a block; the second begins near zero: a block begins as the identity."""
    torch.manual_seed(0)
    encoders: Any = PhotoNet().encoders
    block = encoders[0][0]
    assert block.conv1.weight.std().item() == pytest.approx((2 / (9 * 48)) ** 0.5, rel=0.03)
    assert block.conv2.weight.std().item() == pytest.approx(0.1 / 48**0.5, rel=0.03)


@pytest.mark.parametrize("shifts", [2, 4])
def test_shifts_are_the_mean_of_moved_pictures(shifts: int) -> None:
    net, noisy = atbsn.load("fast").eval(), scene()
    moves = {2: ((0, 0), (1, 1)), 4: ((0, 0), (0, 1), (1, 0), (1, 1))}[shifts]
    outputs = []
    for down, right in moves:
        padded = F.pad(noisy, (8, 8, 8, 8), mode="reflect")[..., down:, right:]
        with torch.no_grad():
            outputs.append(net(padded)[..., 8 - down :, 8 - right :][..., :64, :64])
    torch.testing.assert_close(denoised(net, noisy, keep_colours=False, shifts=shifts), sum(outputs) / shifts)


@pytest.mark.parametrize("colour", [(0, 200, 0), (200, 120, 100), (0, 0, 0), (255, 255, 255), (200, 0, 0)])
def test_flat_colours_stay_and_have_no_rims(net: torch.nn.Module, colour: tuple[int, ...]) -> None:
    noisy = flat(colour)
    output = denoised(net, noisy)
    assert (output - noisy).mean((2, 3)).abs().max() < 0.2
    assert (output - noisy).abs().max() < 3


@pytest.mark.parametrize("colour", COLOURS)
def test_luma_noise_goes_on_every_colour(net: torch.nn.Module, colour: tuple[int, ...]) -> None:
    """8 grey values, the same in all channels: what cameras leave that reduce colour noise."""
    torch.manual_seed(0)
    noisy = (flat(colour) + 8 * torch.randn(1, 1, 128, 128)).round().clamp(0, 255)
    assert spread(denoised(net, noisy)) < 2


@pytest.mark.parametrize(("factor", "left"), [(2, 3), (3, 4), (4, 6)])
def test_noise_that_was_enlarged_with_its_picture_goes(net: torch.nn.Module, factor: int, left: float) -> None:
    torch.manual_seed(0)
    noise = F.interpolate(17 * torch.randn(1, 3, 240 // factor, 240 // factor), scale_factor=factor, mode="bicubic")
    assert spread(denoised(net, (120 + noise).round().clamp(0, 255))) < left


def test_most_of_a_hot_pixel_goes(net: torch.nn.Module) -> None:
    torch.manual_seed(0)
    noisy = 130 + 4 * torch.randn(1, 3, 128, 128)
    noisy[..., 20::24, 20::24] = 250
    assert denoised(net, noisy)[..., 20::24, 20::24].mean() < 175


def test_fine_regular_patterns_stay(net: torch.nn.Module) -> None:
    """A mesh of four pixels under weak noise comes out nearer to itself than it went in."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    mesh = (128 + 50 * torch.sin(x * torch.pi / 2.2) * torch.sin(y * torch.pi / 2.6)).expand(1, 3, -1, -1)
    noisy = (mesh + 6 * torch.randn(1, 3, 128, 128)).round()
    errors = [(each - mesh).square().mean() for each in (denoised(net, noisy), noisy)]
    assert errors[0] < 0.8 * errors[1]
