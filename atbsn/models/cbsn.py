"""C-BSN's training: the network is blind on sub-images, and its full pass learns from the blind one.

Jang et al., ICCV 2023, arXiv 2304.09507.
"""

from math import lcm
from typing import Annotated, Any

import torch
from annotated_types import Gt, Le
from torch import Tensor
from torch.nn import functional as F

from atbsn.archs.base import Network
from atbsn.archs.cbsn import CBSN, standardise
from atbsn.models.base import Model
from atbsn.ops.subsample import batch_to_space, draw_positions, space_to_batch, subsample
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError
from atbsn.utils.types import PositiveInt


@MODELS.register
class CBSNModel(Model):
    """Conditional blind-spot network with the downsampled-invariance loss.

    With x the patches, each standardised by its own statistics, f_M the blind and f the full network::

        L_blind = | B2S_5(f_M(S2B_5(x))) - x |       the noise of neighbours in a sub-image is nearly independent
        L_self  = | f(x) - x |
        L_inv   = | RS_2(f(x)) - sg f_M(RS_2(x)) |   one random pixel of each cell, the same for x and for f(x)
        L       = L_blind + w(t) (L_self + 2 L_inv),    w rises from 0 to 1 during the share ``ramp`` of the run

    One full pass serves L_self and L_inv. The network's first layer is 1x1, so it is computed once for the full pass
    and, sub-sampled, for the blind pass.

    Args:
        net: a ``CBSN``.
        stride_train: b of S2B_b. A larger one leaves less of the noise's correlation, but also less detail.
        stride_inv: i of RS_i.
        ramp: share of the run during which w rises: 200,000 of the published 500,000 iterations.
        weight_inv: weight of L_inv against L_self. If it were not above 1, the optimum of these L1 losses would be the
            noisy pixel.

    Raises:
        UserError: ``net`` is not a ``CBSN``.
    """

    net: CBSN

    def __init__(
        self,
        net: Network,
        stride_train: PositiveInt = 5,
        stride_inv: PositiveInt = 2,
        ramp: Annotated[float, Gt(0), Le(1)] = 0.4,
        weight_inv: Annotated[float, Gt(1)] = 2.0,
    ) -> None:
        super().__init__(net)
        self.check_network(type(net), {})
        self.stride_train, self.stride_inv = stride_train, stride_inv
        self.ramp, self.weight_inv = ramp, weight_inv

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if not issubclass(net_class, CBSN):
            raise UserError(f"network.type: {net_class.__name__} cannot switch its blind spot off; use CBSN")

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return lcm(net_class.size_multiple, arguments["stride_train"], arguments["stride_inv"])

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        x, _, _ = standardise(batch["noisy"])
        features = self.net.head(x)
        full = self.net.body(features, blind=False)
        phases = self.net.body(space_to_batch(features, self.stride_train), blind=True)
        positions = draw_positions(x, self.stride_inv)
        with torch.no_grad():  # last: autocast keeps the weights that it casts, here without a gradient
            target = self.net(subsample(x, positions, self.stride_inv), blind=True)

        loss_blind = F.l1_loss(batch_to_space(phases, self.stride_train), x)
        loss_self = F.l1_loss(full, x)
        loss_inv = F.l1_loss(subsample(full, positions, self.stride_inv), target)
        w = (progress / self.ramp).clamp(0, 1)
        return {
            "loss": loss_blind + w * (loss_self + self.weight_inv * loss_inv),
            "blind": loss_blind.detach(),
            "self": loss_self.detach(),
            "inv": loss_inv.detach(),
            "w": w,
        }
