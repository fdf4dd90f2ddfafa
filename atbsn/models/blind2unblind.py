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
    """The re-visible loss: what the blind network misses comes back through the plain one.

    With h the blind pass, over sixteen masked copies, and f the plain one of the same network, y in 0 to 1::

        d = h(y) - y,   e = sg f(y) - y
        L = alpha mean d^2 + mean (d + beta e)^2

    beta is 2 until the part ``ramp_start`` of the run, then rises to 20 at its end. f is trained through h alone. It
    assumes that noise is independent between pixels. That of real sRGB photographs is not: the network becomes the
    identity (23.10 dB on SIDD). A baseline.

    Args:
        net: a ``UNet``; as published with ``variant: b2u``.
        alpha: weight of the blind term.
        beta_first, beta_last: beta at the beginning and at the end.
        ramp_start: 0.8 for one noise level, 0.4 for many, as in real photographs.
        epochs: in how many steps beta rises.
        beta_test: beta of the mix while denoising (17 passes); None: f alone, one pass and slightly worse.

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
        """beta at ``progress`` in [0, 1], constant over each of the ``epochs`` parts of the run."""
        done = epoch_of(progress, self.epochs) / self.epochs
        ramp = ((done - self.ramp_start) / (1 - self.ramp_start)).clamp(min=0)
        return self.beta_first + ramp * (self.beta_last - self.beta_first)

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        blind = (self.net.blind(noisy) - noisy) / 255
        with torch.no_grad():  # last, so that the weights autocast keeps are cast with their gradient
            plain = (self.net(noisy) - noisy) / 255
        beta = self.beta(progress)
        regular = self.alpha * blind.square().mean()
        revisible = (blind + beta * plain).square().mean()
        return {"loss": regular + revisible, "blind": regular.detach(), "revisible": revisible.detach(), "beta": beta}

    def denoise_settings(self) -> dict[str, Any]:
        return {"beta": self.beta_test}
