"""The one denoiser: its settings and their order, random numbers, strength, precision, compilation."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import atbsn
from atbsn.archs import build_arch
from atbsn.archs.base import BlindSpotNetwork, Network, seeded, untiled
from atbsn.archs.weights import save_weights
from atbsn.engine.inference.capture import Graphs
from atbsn.engine.inference.denoiser import Denoiser, build_denoiser, check_channels
from atbsn.engine.inference.seed import picture_seed
from atbsn.engine.precision import resolve_precision
from atbsn.options.schema import Test as Options
from atbsn.pictures import from_tensor, to_tensor
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError
from atbsn.utils.types import PositiveFloat

CPU = torch.device("cpu")


@pytest.mark.parametrize(("capabilities", "precision"), [({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "fp32")])
def test_auto_is_bf16_where_the_cpu_has_it(
    capabilities: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert resolve_precision("auto", CPU) == precision
    assert resolve_precision("fp32", CPU) == "fp32"


@pytest.mark.parametrize("name", ["StudentC", "CBSN"])
def test_compiled_once_for_all_tiles_and_pictures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda net, **how: compile_module(net, backend=counter, **how))
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = build_arch({"type": name, "width": 2}).eval()
    options: dict[str, Any] = {"tile": 64, "overlap": 16, "precision": "fp32"}
    plain = build_denoiser(copy.deepcopy(net), CPU, Options(**options), {})
    net.compile(dynamic=False)
    compiled = build_denoiser(net, CPU, Options(**options), {})
    for size in ((96, 160), (128, 64)):
        noisy = torch.rand(1, 3, *size) * 255
        torch.testing.assert_close(compiled(noisy), plain(noisy))
    assert counter.frame_count == 1


class Dithering(BlindSpotNetwork):
    """A random refinement and a keyword of its own, in the smallest network with a hole."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, noisy: torch.Tensor, k: int = 3) -> torch.Tensor:
        return noisy * self.scale + k

    def denoise(  # type: ignore[override]  # keywords of its own, as networks have
        self,
        noisy: torch.Tensor,
        tiled: Callable[..., torch.Tensor] = untiled,
        *,
        k: int = 3,
        amount: PositiveFloat = 1.0,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        assert isinstance(k, int), "it knows only numbers"
        generator = seeded(generator, noisy)
        return super().denoise(noisy, tiled, k=k) + amount * torch.rand(noisy.shape, generator=generator)


def of(net: Network, options: dict[str, Any] | None = None, **trained_for: Any) -> Denoiser:
    return build_denoiser(net, CPU, Options(precision="fp32", **(options or {})), trained_for)


def picture() -> torch.Tensor:
    return torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(1)) * 255


def test_settings_lie_over_one_another() -> None:
    """The network's defaults, what the weights were trained for, test.denoise, test.k."""
    net, noisy = Dithering(), picture()
    cases: tuple[tuple[dict[str, Any], dict[str, Any], dict[str, Any]], ...] = (
        ({}, {}, {"k": 3, "amount": 1.0}),
        ({}, {"k": 5, "amount": 2.0}, {"k": 5, "amount": 2.0}),
        ({"denoise": {"k": 7}}, {"k": 5, "amount": 2.0}, {"k": 7, "amount": 2.0}),
        ({"denoise": {"k": 7, "amount": 3}, "k": 9}, {"k": 5, "amount": 2.0}, {"k": 9, "amount": 3.0}),
    )
    for options, trained_for, expected in cases:
        result = of(net, options, **trained_for)(noisy)
        generator = torch.Generator().manual_seed(picture_seed(noisy))
        assert torch.equal(result, net.denoise(noisy, generator=generator, **expected))


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("StudentA", {"k": 7}, "k = 7: StudentA has no blind spot to choose; leave k out"),
        ("StudentA", {"amount": 7}, "amount: not a setting of StudentA.denoise; it has margin, strength"),
        ("ATBSN", {"kk": 7}, "kk: not a setting of ATBSN.denoise; it has k, margin, strength"),
        ("ATBSN", {"k": 4}, "k = 4: a blind spot is 0"),
        ("ATBSN", {"k": "3"}, "ATBSN.denoise: k: '3': input should be a valid integer"),
        ("ATBSN", {"strength": 2.5}, "strength: 2.5: input should be less than or equal to 2"),
        ("ATBSN", {"generator": 1}, "generator: not a setting"),
        ("ATBSN", {"tiled": 1}, "tiled: not a setting"),
    ],
)
def test_a_wrong_setting_is_said(name: str, settings: dict[str, Any], said: str) -> None:
    net = build_arch({"type": name})
    with pytest.raises(UserError, match=re.escape(said)):
        of(net, {"denoise": settings})
    with pytest.raises(UserError, match=re.escape(said)):
        atbsn.denoise(net, np.zeros((8, 8, 3), np.uint8), **settings)


def test_what_is_drawn_depends_on_the_picture_alone() -> None:
    denoiser, noisy = of(Dithering()), picture()
    state = torch.get_rng_state()
    first, again = denoiser(noisy), denoiser(noisy)
    assert torch.equal(first, again)
    other = denoiser(noisy.flip(3)).flip(3)
    assert not torch.equal(first, other), "another picture draws other numbers"
    assert torch.equal(torch.get_rng_state(), state)
    family = denoiser.family([1, 3])(noisy)
    assert torch.equal(family[1], first)
    assert torch.equal(denoiser.family([3])(noisy)[0], first), "other blind spots change nothing"
    image = noisy[0].permute(1, 2, 0).numpy()
    assert np.array_equal(atbsn.denoise(denoiser.net, image), atbsn.denoise(denoiser.net, image))


def test_the_seed_of_a_picture_is_that_of_its_pixels() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (300, 7, 3), np.uint8)
    seed = picture_seed(to_tensor(rgb)[None])
    deep, share = rgb.astype(np.uint16) * 257, rgb.astype(np.float32) / 255
    planar = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None]
    assert picture_seed(to_tensor(deep)[None]) == seed == picture_seed(to_tensor(share)[None] * 255)
    assert picture_seed(planar) == seed == picture_seed(planar.double())
    turned = picture_seed(to_tensor(rgb.transpose(1, 0, 2))[None])
    reshaped = picture_seed(to_tensor(rgb.reshape(7, 300, 3))[None])
    rgb[299, 6, 2] ^= 1
    assert len({seed, turned, reshaped, picture_seed(to_tensor(rgb)[None])}) == 4


@pytest.mark.parametrize(
    "settings", [{"strength": 0.5}, {"strength": 1.5}, {"strength": 0}, {"luma": 2, "colour": 0.2}, {"margin": 9}]
)
def test_a_family_is_the_denoiser_at_each_blind_spot(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net, noisy = build_arch({"type": "ATBSN", "width": 2}).eval(), picture()
    denoiser = of(net, {"denoise": settings})
    family = denoiser.family([0, 1, 5])(noisy)
    for k, output in zip((0, 1, 5), family, strict=True):
        expected = of(net, {"denoise": {**settings, "k": k}})(noisy)
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-4)
    with pytest.raises(UserError, match="StudentA has no blind spot to choose"):
        of(build_arch({"type": "StudentA"})).family([1])


@pytest.mark.parametrize("ensemble", [False, True])
def test_strength_is_how_much_is_taken_off(ensemble: bool) -> None:
    torch.manual_seed(0)
    net, noisy = build_arch({"type": "StudentA"}).eval(), picture()
    nothing, half, all_, more, twice = [
        of(net, {"denoise": {"strength": s}, "self_ensemble": ensemble})(noisy) for s in (0.0, 0.5, 1.0, 1.5, 2.0)
    ]
    assert torch.equal(nothing, noisy)
    torch.testing.assert_close(half, (noisy + all_) / 2)
    torch.testing.assert_close(twice, of(net, {"self_ensemble": ensemble})(all_))
    torch.testing.assert_close(more, (all_ + twice) / 2)
    assert torch.equal(all_, of(net, {"self_ensemble": ensemble})(noisy))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_without_strength_the_picture_stays_to_the_bit(dtype: Any, tmp_path: Path) -> None:
    net = build_arch({"type": "StudentA"}).eval()
    rng = np.random.default_rng(0)
    integer = np.issubdtype(dtype, np.integer)
    image = rng.integers(0, np.iinfo(dtype).max + 1, (9, 11, 3)) if integer else rng.normal(size=(9, 11, 3))
    image = image.astype(dtype)
    result = atbsn.denoise(net, image, strength=0)
    assert result.dtype == dtype and np.array_equal(result, image) and result is not image
    if integer:
        tensor = of(net, {"denoise": {"strength": 0}})(to_tensor(image)[None])
        assert np.array_equal(from_tensor(tensor[0], dtype), image)


def test_loaded_weights_remember_their_settings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, image = build_arch({"type": "ATBSN", "width": 2}), np.full((8, 8, 3), 99, np.uint8)
    for metadata in (
        {"denoise": {"k": 7}},
        {"k": 7, "k_train": 9, "model": "BSNModel"},
    ):  # as in version 0.1
        save_weights(tmp_path / "net.pth", net.state_dict(), {"network": net.options, **metadata})
        loaded = atbsn.load(tmp_path / "net.pth")
        assert loaded.denoise_settings == {"k": 7}
        assert np.array_equal(atbsn.denoise(loaded, image), atbsn.denoise(net, image, k=7))
        assert np.array_equal(atbsn.denoise(loaded, image, 1), atbsn.denoise(net, image, k=1))
    for wrong, said in (({"denoise": {"pd": 2}}, "pd: unknown key"), ({"denoise": 3}, "not a mapping")):
        save_weights(tmp_path / "net.pth", net.state_dict(), {"network": net.options, **wrong})
        with pytest.raises(UserError, match=f"its metadata are wrong: .*{said}"):
            atbsn.load(tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["ATBSN", "TMBSN", "APRBSN"])
def test_mean_is_that_of_the_family(name: str) -> None:
    """As a keyword of ``denoise``, as a setting, in tiles, and among other blind spots in one pass."""
    net: Any = build_arch({"type": name, **ARCHS.get(name).example()}).eval()
    noisy = torch.rand(1, 3, 40, 44, generator=torch.Generator().manual_seed(1)) * 255
    with torch.no_grad():
        expected = torch.stack([net.denoise(noisy, k=k) for k in net.family]).mean(dim=0)
        torch.testing.assert_close(net.denoise(noisy, k="mean"), expected, atol=1e-3, rtol=0)
    for options, trained_for in (({"k": "mean"}, {}), ({"denoise": {"k": "mean"}}, {"k": 1}), ({}, {"k": "mean"})):
        torch.testing.assert_close(of(net, options, **trained_for)(noisy), expected, atol=1e-3, rtol=0)
    single, mean, one = of(net).family([1, "mean", 3])(noisy)
    torch.testing.assert_close(mean, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(single, of(net, {"k": 1})(noisy), atol=1e-3, rtol=0)
    torch.testing.assert_close(one, of(net, {"k": 3})(noisy), atol=1e-3, rtol=0)


def test_a_network_that_knows_only_numbers_has_the_mean_too() -> None:
    net, noisy = Dithering(), picture()
    single = torch.stack([of(net, {"denoise": {"amount": 2.0}, "k": k})(noisy) for k in net.family]).mean(dim=0)
    torch.testing.assert_close(of(net, {"denoise": {"amount": 2.0}, "k": "mean"})(noisy), single)
    torch.testing.assert_close(of(net, {"denoise": {"amount": 2.0}}).family(["mean"])(noisy)[0], single)


def test_anything_else_is_no_blind_spot() -> None:
    with pytest.raises(UserError, match="k: 'median'"):
        of(Dithering(), {"denoise": {"k": "median"}})


def test_a_network_for_one_channel_takes_any_picture_and_others_their_own() -> None:
    grey, rgb = (build_arch({"type": "PhotoNet", "widths": [4, 4], "channels": channels}) for channels in (1, 3))
    for channels in (1, 3, 4):
        check_channels(grey, channels)
    check_channels(rgb, 3)
    for channels in (1, 4):
        with pytest.raises(UserError, match=f"a picture of {channels} channels: this PhotoNet is for 3"):
            check_channels(rgb, channels)


def test_a_network_of_one_channel_denoises_every_channel_by_itself() -> None:
    """Of a picture of any number of them; others denoise those of their own number, or colours."""
    torch.manual_seed(0)
    one, five = (build_arch({"type": "PhotoNet", "widths": [4, 4], "channels": number}).eval() for number in (1, 5))
    image = np.random.default_rng(0).integers(0, 255, (16, 24, 5), np.uint8)
    together = atbsn.denoise(one, image)
    for channel in range(5):
        assert np.array_equal(together[..., channel], atbsn.denoise(one, image[..., channel : channel + 1])[..., 0])
    assert atbsn.denoise(five, image).shape == image.shape
    for number in (1, 2, 4):
        with pytest.raises(UserError, match=rf"image: shape \(16, 24, {number}\) is not \(H, W, 5\)"):
            atbsn.denoise(five, image[..., :number])
    with pytest.raises(UserError, match=r"image: shape \(16, 24\) is not \(H, W, 3\) RGB"):
        atbsn.denoise(one, image[..., 0])


@pytest.mark.parametrize(
    ("capture", "is_local", "is_captured"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_local_networks_are_captured_where_the_plan_says_so(
    capture: bool, is_local: bool, is_captured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def noted(self: Graphs, key: Any, function: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        called.append(x.shape)
        return function(x)

    monkeypatch.setattr(Graphs, "__call__", noted)
    monkeypatch.setattr(Dithering, "is_local", lambda self: is_local)
    denoiser, noisy = of(Dithering()), picture()
    plan = denoiser.plan(12, 14)
    assert not plan.capture, "on a CPU"
    expected = denoiser(noisy)
    assert not called
    found = denoiser(noisy, replace(plan, capture=capture))
    assert torch.equal(found, expected) and called == [noisy.shape] * is_captured


def small_network() -> tuple[Network, np.ndarray]:
    """A network, and a picture in [0, 1] with both ends."""
    torch.manual_seed(0)
    image = np.random.default_rng(0).random((16, 24, 3), np.float32)
    image[0, 0], image[0, 1] = 0, 1
    return build_arch({"type": "PhotoNet", "widths": [4, 4]}).eval(), image


@pytest.mark.parametrize("white", [0.25, 1.0, 255.0, 4095.0, 65535.0])
def test_pictures_are_denoised_in_their_range(white: float) -> None:
    net, image = small_network()
    expected = atbsn.denoise(net, image, data_range=1.0, precision="fp32")
    found = atbsn.denoise(net, white * image, data_range=white, precision="fp32")
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= white
    np.testing.assert_allclose(found / white, expected, atol=1e-5)


def test_the_range_that_is_not_given_is_1_or_255() -> None:
    """Values up to 1.5 are a little beyond white at 1; integers have the range of their type."""
    net, image = small_network()
    for scale, white in ((1.0, 1.0), (1.5, 1.0), (1.51, 255.0), (200.0, 255.0)):
        given = image * np.float32(scale)
        assert np.array_equal(atbsn.denoise(net, given), atbsn.denoise(net, given, data_range=white))
    for dtype, top in ((np.uint8, 255.0), (np.uint16, 65535.0)):
        whole = (image * top).astype(dtype)
        assert np.array_equal(atbsn.denoise(net, whole), atbsn.denoise(net, whole, data_range=top))


@pytest.mark.parametrize("white", [0, 0.0, -1.0, float("inf"), float("nan")])
def test_no_value_of_white(white: float) -> None:
    net, image = small_network()
    with pytest.raises(UserError, match=f"data_range: {white} is no value of white; give 1.0, 255"):
        atbsn.denoise(net, image, data_range=white)


@pytest.mark.parametrize("dtype", ["int8", "int32", "bool", "complex64"])
def test_no_samples_of_a_picture(dtype: str) -> None:
    net, image = small_network()
    with pytest.raises(UserError, match=f"image: dtype {dtype} is not uint8, uint16 or float; convert it"):
        atbsn.denoise(net, image.astype(dtype))
