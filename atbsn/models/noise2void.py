"""Noise2Void's training (Krull et al., CVPR 2019, arXiv 1811.10980), and structured Noise2Void."""

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from atbsn.archs.base import Network
from atbsn.models.base import Model, check_plain
from atbsn.ops.masked_pixels import Axis, draw_masked, draw_sources, mask_of, randomised_lines, replaced
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError


@MODELS.register
class Noise2VoidModel(Model):
    """Some pixels get the value of a neighbour, and the network has to predict what they were.

    With y~ the patch in which the masked pixels M are replaced, and y in [0, 1]::

        L = mean over M of (f(y~) - y)^2

    M has one pixel, with all its channels, in every square box whose side is round(10 / sqrt(percent)) pixels. The
    method assumes that the noise of pixels is independent, which is not true of real sRGB photographs. With ``axis``,
    the pixels in line with each masked pixel get random values as well, for noise that is correlated in one direction
    (Broaddus et al., ISBI 2020).

    Args:
        net: an ordinary network.
        percent: percentage of the pixels that are masked.
        radius: pixels to each side of the window that the values come from.
        centre: whether a masked pixel may get its own value, as in the authors' program.
        axis: ``across`` for noise that is correlated along rows, ``down`` for noise that is correlated along columns;
            none for Noise2Void itself.
        span: length, pixels, of the line with the masked pixel in its middle; an odd number.

    Raises:
        UserError: ``net`` is not an ordinary network, or ``span`` is even.
    """

    def __init__(
        self,
        net: Network,
        percent: Annotated[float, Gt(0), Le(25)] = 0.198,
        radius: Annotated[int, Ge(1), Le(64)] = 5,
        centre: bool = True,
        axis: Axis | None = None,
        span: Annotated[int, Ge(3), Le(129)] = 11,
    ) -> None:
        super().__init__(net)
        self.check_network(type(net), {"span": span})
        self.side = round(10 / percent**0.5)
        self.radius, self.centre, self.axis, self.span = radius, centre, axis, span

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        check_plain(net_class)
        if arguments["span"] % 2 == 0:
            raise UserError(f"model.span: {arguments['span']} is even and has no middle; use {arguments['span'] + 1}")

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        places = draw_masked(noisy, self.side)
        return self.loss_at(noisy, places, draw_sources(noisy, places, self.radius, self.centre))

    def loss_at(self, noisy: Tensor, places: Tensor, sources: Tensor) -> dict[str, Tensor]:
        """Compute the losses of ``noisy`` (B, 3, H, W) for ``places`` and ``sources`` of ``ops.masked_pixels``."""
        mask = mask_of(noisy, places)
        error = (self.net(self.masked(noisy, places, sources)) - noisy) / 255
        return {"loss": (error.square() * mask).sum() / (mask.sum() * noisy.shape[1]).clamp(min=1)}

    def masked(self, noisy: Tensor, places: Tensor, sources: Tensor) -> Tensor:
        """Make the network's input from ``noisy`` (B, 3, H, W); the same shape."""
        given = replaced(noisy, places, sources)
        if self.axis is None:
            return given
        lines = randomised_lines(noisy, mask_of(noisy, places), self.axis, self.span)
        return torch.where(mask_of(noisy, places), given, lines)
