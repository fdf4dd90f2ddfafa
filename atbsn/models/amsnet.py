"""AMSNet's training (Liao et al., ECCV 2024, arXiv 2407.06514)."""

from typing import Any

import torch
from torch import Tensor

from atbsn.archs.amsnet import AMSNet
from atbsn.archs.apbsn import Stride
from atbsn.archs.base import Network
from atbsn.models.base import Model
from atbsn.ops.subsample import space_to_batch
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError


@MODELS.register
class AMSNetModel(Model):
    """Asymmetric masks: L = mean |net(m z) - z| over the pixels of z where m = 0, which are hidden from the network.

    z are the PD_``pd_train`` phases of the patch, as items of a batch. m is 0 or 1 with probability 1/2 for each of
    their pixels, the same in all its channels.

    Args:
        net: an ``AMSNet``.
        pd_train: stride in training, large enough that the noise of a sub-image is nearly independent.
        pd: stride while denoising; smaller, so that detail survives.

    Raises:
        UserError: ``net`` is not an ``AMSNet``.
    """

    net: AMSNet

    def __init__(self, net: Network, pd_train: Stride = 5, pd: Stride = 2) -> None:
        super().__init__(net)
        self.check_network(type(net), {})
        self.pd_train, self.pd = pd_train, pd

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if not issubclass(net_class, AMSNet):
            raise UserError(f"network.type: {net_class.__name__} has no pixels hidden from it; use AMSNet")

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return arguments["pd_train"] * net_class.size_multiple

    def losses(self, batch: dict[str, Tensor], progress: Tensor, hidden: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the losses as ``Model.losses``.

        Args:
            hidden: (pd_train^2 B, 1, P / pd_train, P / pd_train) bool, the pixels that are hidden; drawn if not given.
        """
        phases = space_to_batch(batch["noisy"], self.pd_train)
        if hidden is None:
            hidden = torch.rand_like(phases[:, :1]) < 0.5
        error = (self.net(phases.masked_fill(hidden, 0)) - phases).abs() * hidden
        return {"loss": error.sum() / (hidden.sum() * phases.shape[1])}

    def denoise_settings(self) -> dict[str, Any]:
        return {"pd": self.pd}
