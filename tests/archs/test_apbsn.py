"""AP-BSN's and SDAP's networks: the authors' outputs, what a pixel sees, and pictures of any size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden
from helpers.networks import picture
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.apbsn import APBSN, MARGIN, SDAP
from atbsn.archs.dbsn import DBSNl
from atbsn.archs.weights import load
from atbsn.engine.inference.layout import context
from atbsn.engine.inference.tiling import Tiler
from atbsn.ops.pixel_shuffle import pixel_shuffle_downsample
from atbsn.ops.refinement import random_replacing_refinement
from atbsn.ops.subsample import space_to_batch
from atbsn.registry import ARCHS


def authors_network(kind: type[APBSN] | type[SDAP], weights: dict[str, Tensor]) -> Any:
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    net = build_arch({"type": kind.__name__, **kind.recognise(shapes)})
    net.load_state_dict(weights)
    return net.eval()


def small(kind: type[APBSN] | type[SDAP], width: int = 4) -> Any:
    """In float64, with biases large enough that few ReLUs are dead."""
    torch.manual_seed(0)
    return kind(width).double().eval()


def close(output: Tensor, expected: Tensor, atol: float) -> None:
    torch.testing.assert_close(output, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", [APBSN, SDAP])
def test_the_published_size(kind: type[APBSN] | type[SDAP]) -> None:
    assert sum(parameter.numel() for parameter in kind().parameters()) == 3_656_131
    assert not any(name.endswith("mask") for name in kind(4).state_dict())


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_outputs_of_apbsns_authors(assets: Path, memory_format: torch.memory_format) -> None:
    weights, expected = golden.read(assets, "apbsn_width16")
    net, x = authors_network(APBSN, weights).to(memory_format=memory_format), expected["x"]
    close(net.bsn(x), expected["y_bsn"], 1e-3)
    for stride in (1, 2, 5):
        close(net(x, pd=stride), expected[f"y_pd{stride}"], 1e-3)
    close(net.denoise(x, refine=0), expected["y_pd2"], 1e-3)
    close(net.denoise(expected["x_odd"], refine=0), expected["y_odd"], 1e-3)


@torch.no_grad()
@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_refinement_of_apbsns_authors(assets: Path, at_once: int) -> None:
    weights, expected = golden.read(assets, "apbsn_width16")
    net, x = authors_network(APBSN, weights), expected["x"]
    masks, estimate = expected["r3_mask"], net(x)
    close(random_replacing_refinement(net.bsn, x, estimate, masks[:1]), expected["y_r3_first"], 1e-3)
    close(random_replacing_refinement(net.bsn, x, estimate, masks, at_once), expected["y_r3"], 1e-3)


@torch.no_grad()
def test_refinement_of_an_odd_picture(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors leave the row of zeros in that makes 31 rows 32; it is cut off here."""
    weights, expected = golden.read(assets, "apbsn_width16")
    net = authors_network(APBSN, weights)
    monkeypatch.setattr("atbsn.archs.apbsn.replacement_masks", lambda *_: expected["r3_mask_odd"])
    close(net.denoise(expected["x_odd"]), expected["y_r3_odd"][:, :, :31], 1e-3)


@torch.no_grad()
def test_outputs_of_sdaps_authors(assets: Path) -> None:
    weights, expected = golden.read(assets, "sdap_width16")
    net, x = authors_network(SDAP, weights), expected["x"] * 255
    subs = net(expected["subs"].flatten(0, 1) * 255).unflatten(0, expected["subs"].shape[:2]) / 255
    close(subs, expected["denoised_subs"], 1e-5)
    phases = space_to_batch(expected["x"], 2).unflatten(0, (4, -1)).transpose(0, 1).flatten(0, 1)
    assert torch.equal(phases, expected["pd2_batch"])
    close(net.denoise(x) / 255, expected["y"], 1e-5)
    close(net.denoise(x, enhance=True) / 255, expected["y_E"], 1e-5)


@torch.no_grad()
def test_outputs_at_full_width(shared: Path) -> None:
    net: Any = APBSN().eval()
    weights, expected = golden.read_full(shared / "golden", "apbsn_full", golden.shapes(net))
    net.load_state_dict(weights)
    x = expected["x"]
    close(net.bsn(x), expected["y_bsn"], 1e-3)
    close(net(x, pd=5), expected["y_pd5"], 1e-3)
    close(random_replacing_refinement(net.bsn, x, net(x), expected["r3_mask"]), expected["y_r3"], 1e-3)

    net = SDAP().eval()
    weights, expected = golden.read_full(shared / "golden", "sdap_full", golden.shapes(net))
    net.load_state_dict(weights)
    close(net.denoise(expected["x"] * 255, enhance=True) / 255, expected["y_E"], 1e-5)


def seen_from(function: Callable[[torch.Tensor], torch.Tensor], row: int, column: int, size: int) -> Tensor:
    """Which input pixels the output pixel depends on, (size, size): relative gradients, over several pictures."""
    total = torch.zeros(size, size, dtype=torch.float64)
    for seed in range(3):
        x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 255
        x.requires_grad_()
        function(x)[..., row, column].sum().backward()
        total += x.grad.abs().sum(dim=(0, 1))
    return total / total.max()


def test_the_network_is_blind_to_offsets_of_six_and_sees_the_rest() -> None:
    torch.manual_seed(0)
    net = DBSNl(16).double()
    seen = seen_from(net, 35, 35, 71) > 0
    offsets = torch.arange(71) - 35
    blind = (offsets % 6 == 0).view(-1, 1) & (offsets % 6 == 0)
    near = (offsets.abs() <= 29).view(-1, 1) & (offsets.abs() <= 29)
    assert not (seen & blind).any()
    assert not (seen & ~near).any()
    inner = (offsets.abs() <= 12).view(-1, 1) & (offsets.abs() <= 12)
    assert seen[inner & ~blind].all(), "far away, few paths lead there"


def test_masked_taps_have_no_gradient_and_stay_what_they_are() -> None:
    net = small(APBSN)
    conv = net.bsn.branch2.body[0]
    before = conv.weight.detach().clone()
    net(picture(20, 20)).sum().backward()
    assert torch.equal(conv.weight, before)
    assert (conv.weight.grad[..., 2, 2] == 0).all()
    assert (conv.weight.grad != 0).any()


def test_in_training_the_mosaic_never_shows_a_pixel_itself() -> None:
    torch.manual_seed(0)
    net = APBSN(8).double()
    for row, column in ((60, 60), (2, 3), (117, 58)):
        seen = seen_from(lambda x: net(x, pd=5), row, column, 120)
        assert seen[row, column] == 0
        assert seen[row - 1 : row + 2, column - 1 : column + 2].max() < 1e-2, "what lies beside leaks in faintly"


def test_sdap_sees_neither_the_pixel_nor_other_sub_images() -> None:
    torch.manual_seed(0)
    seen = seen_from(SDAP(16).double().denoise, 32, 32, 64) > 0
    assert not seen[32, 32]
    own = torch.zeros_like(seen)
    own[::2, ::2] = True
    assert not (seen & ~own).any()
    assert seen[30:35:2, 30:35:2].sum() == 8


@pytest.mark.parametrize("kind", [APBSN, SDAP])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 40), (33, 64)])
@torch.no_grad()
def test_any_size(kind: type[APBSN] | type[SDAP], size: tuple[int, int]) -> None:
    net = small(kind)
    x = picture(*size, batch=2)
    how = [{"pd": 5, "refine": 1}, {"pd": 3, "refine": 0}] if kind is APBSN else [{"enhance": True}]
    for output in (net(x), net.denoise(x), *(net.denoise(x, **each) for each in how)):
        assert output.shape == x.shape
        assert output.isfinite().all()


@pytest.mark.parametrize("kind", [APBSN, SDAP])
@torch.no_grad()
def test_tiles_change_nothing(kind: type[APBSN] | type[SDAP]) -> None:
    net, x = small(kind, width=2), picture(250, 400)
    how = {"refine": 2} if kind is APBSN else {"enhance": True}
    assert context(kind.tile_overlap) >= 29
    torch.testing.assert_close(net.denoise(x, Tiler(240, kind.tile_overlap), **how), net.denoise(x, **how))


@torch.no_grad()
def test_the_draws_of_refinement_are_reproducible() -> None:
    net, x = small(APBSN), picture(16, 20)
    first = net.denoise(x, generator=torch.Generator().manual_seed(3))
    assert torch.equal(net.denoise(x, generator=torch.Generator().manual_seed(3)), first)
    assert not torch.equal(net.denoise(x, generator=torch.Generator().manual_seed(4)), first)
    assert torch.equal(net.denoise(x), net.denoise(x))
    assert torch.equal(net.denoise(x, p=1), random_replacing_refinement(net.bsn, x, x, torch.ones(8, *x.shape) > 0))


@torch.no_grad()
def test_refinement_sees_no_more_of_a_pixel_than_its_estimate() -> None:
    """With p = 0 it is one pass at full resolution over the estimate."""
    net, x = small(APBSN), picture(16, 20)
    padded = torch.nn.functional.pad(net(x), (MARGIN,) * 4, mode="reflect")
    torch.testing.assert_close(net.denoise(x, p=0, refine=3), net.bsn(padded)[..., 2:-2, 2:-2])


def test_the_mosaic_is_what_the_network_sees(assets: Path) -> None:
    _, expected = golden.read(assets, "apbsn_width16")
    assert torch.equal(pixel_shuffle_downsample(expected["x"], 5, MARGIN), expected["pd5"])
    assert torch.equal(pixel_shuffle_downsample(expected["x"], 2, MARGIN), expected["pd2"])


@pytest.mark.parametrize("options", [{"width": 4}, {"width": 6, "num_modules": 2, "channels": 1}])
@pytest.mark.parametrize("kind", [APBSN, SDAP])
def test_a_bare_state_dict_is_recognised(kind: type[APBSN] | type[SDAP], options: dict[str, int]) -> None:
    shapes = {name: tuple(shape) for name, shape in golden.shapes(kind(**options)).items()}
    found = {name: ARCHS.get(name).recognise(shapes) for name in ARCHS}
    expected = {"num_modules": 9, "channels": 3, **options}
    assert {name: arguments for name, arguments in found.items() if arguments is not None} == {kind.__name__: expected}


@pytest.mark.parametrize(("kind", "prefix"), [(APBSN, ""), (APBSN, "denoiser."), (SDAP, "")])
def test_the_authors_mask_buffers_and_prefixes_are_dropped(
    kind: type[APBSN] | type[SDAP], prefix: str, tmp_path: Path
) -> None:
    own = kind(4).state_dict()
    assert kind.convert_state(own) is None
    foreign = dict(own)
    for name, tensor in own.items():
        if name.endswith("body.0.weight") and "body.0.weight" in name.split("branch")[1][2:15]:
            foreign[name.replace("weight", "mask")] = torch.ones_like(tensor)
    assert len(foreign) == len(own) + 2
    torch.save({prefix + name: tensor for name, tensor in foreign.items()}, tmp_path / "authors.pth")
    net = load(tmp_path / "authors.pth")
    converted = net.state_dict()
    assert type(net) is kind and converted.keys() == own.keys()
    assert all(torch.equal(converted[name], own[name]) for name in own)


@pytest.mark.parametrize("kind", [APBSN, SDAP])
def test_foreign_state_dicts_are_left_alone(kind: type[APBSN] | type[SDAP]) -> None:
    other = SDAP if kind is APBSN else APBSN
    for net in (other(4), build_arch({"type": "CBSN", "width": 4}), build_arch({"type": "ATBSN", "width": 2})):
        assert kind.convert_state(net.state_dict()) is None


@pytest.mark.parametrize("kind", [APBSN, SDAP])
@torch.no_grad()
def test_bfloat16_keeps_grey_levels(kind: type[APBSN] | type[SDAP]) -> None:
    torch.manual_seed(0)
    net, x = kind(8), picture(32, 32).float()
    with torch.autocast("cpu", torch.bfloat16):
        low = net(x)
    assert low.dtype == torch.float32
    assert (low - net(x)).abs().max() < 0.05 * net(x).abs().max() + 0.05
