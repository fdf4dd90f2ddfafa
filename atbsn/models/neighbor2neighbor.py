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
    """Two neighbouring pixels of each 2 x 2 cell make two noisy pictures of one scene.

    With g1, g2 a random pair of neighbours in each cell, and y in [0, 1]::

        d = f(g1 y) - g2 y,   e = g1 sg f(y) - g2 sg f(y)
        L = mean d^2 + Gamma mean (d - e)^2,   Gamma = ratio * epoch / epochs

    The method is a baseline. It assumes that the noise of neighbours is independent, which is not true of real sRGB
    photographs: there f becomes nearly the identity (25.98 dB on SIDD).

    Args:
        net: an ordinary network; as published ``UNet`` with ``variant: n2n``.
        ratio: Gamma at the end.
        epochs: number of steps in which Gamma rises to ``ratio``.
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
        """Compute the losses as ``Model.losses``; ``index`` is drawn if it is not given (``draw_neighbours``)."""
        noisy = batch["noisy"]
        if index is None:
            index = draw_neighbours(noisy)
        first, second = neighbours(noisy, index)
        difference = (self.net(first) - second) / 255
        with torch.no_grad():  # last: autocast keeps the weights that it casts, here without a gradient
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
