"""TBSN: the authors' outputs, and what a pixel sees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import golden
from helpers.networks import gradient_norm, influence, picture
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.tbsn import TBSN
from atbsn.ops.subsample import batch_to_space, space_to_batch

SMALL: dict[str, Any] = {"width": 8, "num_blocks": (1, 1, 1), "num_refinement": 1}


def build() -> TBSN:
    torch.manual_seed(0)
    return TBSN(4, (1, 1, 1), 1).double().eval()


def authors_network(assets: Path) -> tuple[TBSN, dict[str, Tensor]]:
    net = TBSN(**SMALL)
    net.load_state_dict(load_file(assets / "tbsn_width8.weights.safetensors"))
    return net.double(), golden.read_double(assets, "tbsn_width8")


def close(output: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(output, expected, rtol=0, atol=5e-5)


# --- the published network ---------------------------------------------------------------------------------


def test_meets_the_authors_outputs_and_gradients(assets: Path) -> None:
    net, expected = authors_network(assets)
    check(net, expected)
    close(space_to_batch(expected["x"], 2), expected["pd2_batch"])
    for name in (
        "output.weight",
        "encoder_level1.0.channel_attn.temperature",
        "encoder_level1.0.spatial_attn.rel_pos_emb.rel_height",
    ):
        torch.testing.assert_close(net.get_parameter(name).grad, expected[f"grad.{name}"], rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_meets_the_authors_outputs_at_full_width(shared: Path) -> None:
    net = TBSN()
    golden.fill(net, shared / "golden", "tbsn_full")
    check(net.double(), golden.read_double(shared / "golden", "tbsn_full"))


def check(net: TBSN, expected: dict[str, Tensor]) -> None:
    x = expected["x"]
    with torch.no_grad():
        close(net(x), expected["y_bsn"])
        once = net.denoise(x, refine=0)
        close(once, expected["y_pd2"])
        close(net.refine(x, once, expected["r3_mask"]), expected["y_r3"])
        close(net(once), expected["y_teacher"])
    patch = expected["train_input"]
    output = net(patch)
    close(output, expected["y_train"])
    loss = (output - patch).abs().mean()
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"].item(), rel=1e-6)
    assert gradient_norm(net) == pytest.approx(expected["grad_norm"].item(), rel=1e-5)


@torch.no_grad()
def test_parts_on_phases_are_the_authors_dilated_and_masked_ones(assets: Path) -> None:
    net, expected = authors_network(assets)
    features = net.patch_embed["proj"](expected["part_input"])
    close(features, expected["embedding"])
    block = net.encoder_level1[0]
    for part, norm, name in (
        (block.channel_attn, block.norm1, "channel_attn"),
        (block.channel_ffn, block.norm1, "ffn"),
        (block.spatial_attn, block.norm1, "spatial_attn"),
    ):
        close(batch_to_space(part(norm(space_to_batch(features, 2))), 2), expected[name])
    moved = F.pixel_unshuffle(space_to_batch(expected["patch_unshuffle_in"], 2), 2)
    assert torch.equal(batch_to_space(moved, 2), expected["patch_unshuffle_out"])


def test_number_of_parameters() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in TBSN().parameters()) == 12_746_780


def test_an_authors_file_is_recognised() -> None:
    own = TBSN(**SMALL).state_dict()
    mask = {"latent.0.spatial_attn.fixed_pos_emb.attention_mask": torch.zeros(64, 144)}
    state = TBSN.convert_state({f"bsn.{name}": tensor for name, tensor in (own | mask).items()})
    assert state.keys() == own.keys()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert TBSN.recognise(shapes) == {"width": 8, "num_blocks": [1, 1, 1], "num_refinement": 1, "channels": 3}
    assert TBSN.convert_state(own) is None
    assert TBSN.convert_state({"bsn.patch_embed.proj.weight": torch.zeros(1)}) is None


# --- blindness ---------------------------------------------------------------------------------------------


class Still(nn.Module):
    """Values alone, without the map that sums over all pixels."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        value = self.attention.qkv_dwconv(self.attention.qkv(x)).chunk(3, dim=1)[2]
        return self.attention.project_out(value)


def test_blind_to_the_pixel_itself_but_for_its_channel_attention() -> None:
    net, x = build(), picture(64, 32, batch=3).requires_grad_()
    places = [(19, 14), (0, 0), (63, 31), (4, 7), (22, 1)]
    output = net(x)
    for row, column in places:
        seen = influence(output, x, row, column)
        assert 0 < seen[row, column] < 1e-2 * seen.max()
    for module in net.modules():
        if hasattr(module, "channel_attn"):
            module.channel_attn = Still(module.channel_attn)
    output = net(x)
    for row, column in places:
        seen = influence(output, x, row, column)
        assert not seen[row % 2 :: 2, column % 2 :: 2].any()  # itself, and all at even offsets
        assert (seen > 0).sum() > 200


# --- denoising ---------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_same_draws_give_the_same_picture() -> None:
    net, x = build(), picture(33, 46)
    first = net.denoise(x, refine=2)
    assert first.shape == x.shape
    assert torch.equal(first, net.denoise(x, refine=2, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(first, net.denoise(x, refine=2, generator=torch.Generator().manual_seed(1)))
    laid = []

    def whole(function: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        laid.append(tuple(image.shape))
        return function(image)

    assert torch.equal(first, net.denoise(x, whole, refine=2))
    assert laid == [(4, 3, 17, 23), (1, 3, 33, 46), (1, 3, 33, 46)]
