"""AP-BSN's training (Lee et al., CVPR 2022, arXiv 2203.11799)."""

from typing import Any

from torch import Tensor

from atbsn.archs.apbsn import APBSN, Stride, Times
from atbsn.archs.base import Network
from atbsn.models.base import Model
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError
from atbsn.utils.types import Fraction


@MODELS.register
class APBSNModel(Model):
    """Asymmetric PD: train on every fifth pixel, denoise on every second: L = mean |PD_5^-1(B(PD_5(y))) - y|.

    Args:
        net: an ``APBSN``.
        pd_train: stride in training, large enough that the noise of a sub-image is nearly independent.
        pd: stride while denoising; smaller, so that detail survives.
        refine: T, the number of terms of R3 while denoising.
        p: probability that a term takes the noisy value of an element.

    Raises:
        UserError: ``net`` is not an ``APBSN``.
    """

    net: APBSN

    def __init__(
        self, net: Network, pd_train: Stride = 5, pd: Stride = 2, refine: Times = 8, p: Fraction = 0.16
    ) -> None:
        super().__init__(net)
        self.check_network(type(net), {})
        self.pd_train, self.pd, self.refine, self.p = pd_train, pd, refine, p

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if not issubclass(net_class, APBSN):
            raise UserError(f"network.type: {net_class.__name__} takes no mosaic of sub-images; use APBSN")

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return arguments["pd_train"]

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        return {"loss": (self.net(noisy, pd=self.pd_train) - noisy).abs().mean()}

    def denoise_settings(self) -> dict[str, Any]:
        return {"pd": self.pd, "refine": self.refine, "p": self.p}
