"""Neighbor2Neighbor's training (Huang et al., CVPR 2021, arXiv 2101.02824)."""

from typing import Any

import torch
from torch import Tensor

from atbsn.archs.base import Network
from atbsn.models.base import Model, check_plain, epoch_of
from atbsn.ops.neighbours import draw_neighbours, neighbours
from atbsn.registry import MODELS
from atbsn.utils.types import NonNegativeFloat, PositiveInt


@MODELS.register
class Neighbor2NeighborModel(Model):
    """Two neighbours of each 2 x 2 cell are two noisy pictures of one scene.

    With g1, g2 one random pair of neighbours a cell, and y in 0 to 1::

        d = f(g1 y) - g2 y,   e = g1 sg f(y) - g2 sg f(y)
        L = mean d^2 + Gamma mean (d - e)^2,   Gamma = ratio * epoch / epochs

    It assumes that the noise of neighbours is independent. That of real sRGB photographs is not: f becomes close to the
    identity (25.98 dB on SIDD). A baseline.

    Args:
        net: an ordinary network; as published ``UNet`` with ``variant: n2n``.
        ratio: Gamma at the end.
        epochs: in how many steps Gamma rises there.
    """

    def __init__(self, net: Network, ratio: NonNegativeFloat = 2.0, epochs: PositiveInt = 100) -> None:
        super().__init__(net)
        self.check_network(type(net), {})
        self.ratio, self.epochs = ratio, epochs

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        check_plain(net_class)

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return 2 * net_class.size_multiple

    def losses(self, batch: dict[str, Tensor], progress: Tensor, index: Tensor | None = None) -> dict[str, Tensor]:
        """As ``Model.losses``; the neighbours' ``index`` is drawn if it is not given (``draw_neighbours``)."""
        noisy = batch["noisy"]
        if index is None:
            index = draw_neighbours(noisy)
        first, second = neighbours(noisy, index)
        difference = (self.net(first) - second) / 255
        with torch.no_grad():  # last, so that the weights autocast keeps are cast with their gradient
            clean_first, clean_second = neighbours(self.net(noisy), index)
        expected = (clean_first - clean_second) / 255
        reconstruction = difference.square().mean()
        regularisation = (difference - expected).square().mean()
        gamma = self.ratio * epoch_of(progress, self.epochs) / self.epochs
        return {
            "loss": reconstruction + gamma * regularisation,
            "rec": reconstruction.detach(),
            "reg": regularisation.detach(),
            "gamma": gamma,
        }
