"""Blind2Unblind's training (Wang et al., CVPR 2022, arXiv 2203.06967)."""

from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from atbsn.archs.base import Network
from atbsn.archs.plain_unet import UNet
from atbsn.models.base import Model, epoch_of
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError
from atbsn.utils.types import NonNegativeFloat, PositiveInt


@MODELS.register
class Blind2UnblindModel(Model):
    """The re-visible loss: detail that the blind pass loses comes back through the plain pass.

    With h the blind pass on sixteen masked copies and f the plain pass of the same network, y in [0, 1]::

        d = h(y) - y,   e = sg f(y) - y
        L = alpha mean d^2 + mean (d + beta e)^2

    beta is 2 during the share ``ramp_start`` of the run, then rises to 20 at its end. No gradient passes through f. The
    method is a baseline. It assumes that noise is independent between pixels, which is not true of real sRGB
    photographs: there the network becomes the identity (23.10 dB on SIDD).

    Args:
        net: a ``UNet``; as published with ``variant: b2u``.
        alpha: weight of the blind term.
        beta_first, beta_last: beta at the beginning and at the end.
        ramp_start: share of the run after which beta rises. Published are 0.8 for one noise level and 0.4 for many, as
            in real photographs.
        epochs: number of steps in which beta rises.
        beta_test: beta of the mix while denoising, in 17 passes. None: f alone, in one pass, which is slightly worse.

    Raises:
        UserError: ``net`` is not a ``UNet``.
    """

    net: UNet

    def __init__(
        self,
        net: Network,
        alpha: NonNegativeFloat = 1.0,
        beta_first: NonNegativeFloat = 2.0,
        beta_last: NonNegativeFloat = 20.0,
        ramp_start: Annotated[float, Ge(0), Lt(1)] = 0.4,
        epochs: PositiveInt = 100,
        beta_test: NonNegativeFloat | None = 20.0,
    ) -> None:
        super().__init__(net)
        self.check_network(type(net), {})
        self.alpha, self.beta_first, self.beta_last = alpha, beta_first, beta_last
        self.ramp_start, self.epochs, self.beta_test = ramp_start, epochs, beta_test

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if not issubclass(net_class, UNet):
            raise UserError(f"network.type: {net_class.__name__} has no blind pass over masked copies; use UNet")

    def beta(self, progress: Tensor) -> Tensor:
        """Give beta at ``progress`` in [0, 1]; it is constant during each of the ``epochs`` parts of the run."""
        done = epoch_of(progress, self.epochs) / self.epochs
        ramp = ((done - self.ramp_start) / (1 - self.ramp_start)).clamp(min=0)
        return self.beta_first + ramp * (self.beta_last - self.beta_first)

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        blind = (self.net.blind(noisy) - noisy) / 255
        with torch.no_grad():  # last: autocast keeps the weights that it casts, here without a gradient
            plain = (self.net(noisy) - noisy) / 255
        beta = self.beta(progress)
        regular = self.alpha * blind.square().mean()
        revisible = (blind + beta * plain).square().mean()
        return {"loss": regular + revisible, "blind": regular.detach(), "revisible": revisible.detach(), "beta": beta}

    def denoise_settings(self) -> dict[str, Any]:
        return {"beta": self.beta_test}
