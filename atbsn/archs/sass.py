"""SASS's locality-aware network, and the names of its blind-spot network (Li et al., CVPR 2023, arXiv 2303.14934).

SASS's blind-spot network, BNN, is AT-BSN's with k = 9 in training and while denoising. Its U-Net is ``UNet`` with
``variant: sass``.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from atbsn.archs.base import Network, in_full_precision
from atbsn.registry import ARCHS

CHANNELS = 64
"""Channels of the locality-aware network, as published."""
BNN_LAYERS = {
    "unet.intro.conv": "encode_block_1.0",
    "unet.enc1.conv1.conv": "encode_block_1.2",
    **{f"unet.enc{i}.conv1.conv": f"encode_block_{i}.0" for i in range(2, 7)},
    **{f"unet.dec{i}.conv{j}.conv": f"decode_block_{i}.{2 * j - 2}" for i in range(1, 6) for j in (1, 2)},
    **{f"nin_{letter}": f"output_block.{2 * i}" for i, letter in enumerate("ABC")},
}
"""The names of SASS's BNN for the layers of AT-BSN's network."""


class Gate(nn.Module):
    """Channel attention: a weight in (0, 1) for each channel, from its mean: (B, C, H, W) -> (B, C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS // 16, 1), nn.ReLU(), nn.Conv2d(CHANNELS // 16, CHANNELS, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_du(x.mean(dim=(2, 3), keepdim=True))


class LANBlock(nn.Module):
    """t + t' * gate(t'), t' = 1x1(ReLU(1x1 t))."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.cuca = Gate()

    def forward(self, x: Tensor) -> Tensor:
        change = self.conv2(self.conv1(x).relu())
        return x + change * self.cuca(change)


class LANGroup(nn.Module):
    """z + 1x1(six blocks of z)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*(LANBlock() for _ in range(6)))
        self.tail = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.tail(self.body(x))


@ARCHS.register
class LAN(Network):
    """SASS's locality-aware network, which sees ``field`` x ``field`` pixels: too few to reproduce correlated noise.

    ``net(noisy)``: (B, 3, H, W), RGB, [0, 255], any size -> the same shape, not clipped. Its gates see the mean of the
    whole picture, so the field is not strict, and tiles give slightly different results. It is a helper in SASS's
    training. The initialisation is PyTorch's, and the names of the weights are the authors'.

    Args:
        field: 1, 3 or 5 pixels: 58,011, 94,939 or 131,867 parameters.
    """

    sees_whole_tile = True

    def __init__(self, field: Literal[1, 3, 5] = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 1), nn.ReLU(inplace=True)]
        for _ in range(field // 2):
            layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(inplace=True)]
        self.conv = nn.Sequential(*layers, LANGroup(), nn.Conv2d(CHANNELS, 3, 1))

    def forward(self, noisy: Tensor) -> Tensor:
        *layers, last = self.conv
        assert isinstance(last, nn.Conv2d)
        x = noisy
        for layer in layers:
            x = layer(x)
        return in_full_precision(last, last.weight, x)

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        for field in (1, 3, 5):
            if f"conv.{field // 2 * 2 + 2}.body.0.cuca.conv_du.0.weight" in shapes:
                return {"field": field}
        return None


def atbsn_state(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Convert the state dict of SASS's BNN to that of an ``ATBSN``; None if it is another network's.

    SASS rotates counter-clockwise and AT-BSN clockwise, so the second and the fourth quarter of the inputs of the first
    1x1 layer are exchanged. ``output_conv`` is a second name of ``output_block.4``.
    """
    names = {f"{own}.{kind}": f"{foreign}.{kind}" for own, foreign in BNN_LAYERS.items() for kind in ("weight", "bias")}
    left = {name for name in state if not name.startswith("output_conv.")}
    if left != set(names.values()):
        return None
    converted = {own: state[foreign] for own, foreign in names.items()}
    upright, quarter, half, three_quarters = converted["nin_A.weight"].chunk(4, dim=1)
    converted["nin_A.weight"] = torch.cat((upright, three_quarters, half, quarter), dim=1)
    return converted
