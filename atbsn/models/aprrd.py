"""APR-RD's training of the teacher (AAAI 2025): a large blind spot, and a regulariser on pairs of adjacent pixels."""

from typing import Any

import torch
from torch import Tensor

from atbsn.archs.base import Network
from atbsn.models.bsn import BSNModel
from atbsn.ops.adjacent import draw_pairs, replace_adjacent
from atbsn.registry import MODELS
from atbsn.utils.types import Hole, NonNegativeFloat


@MODELS.register
class APRRDModel(BSNModel):
    """Adjacent pixel replacer for a blind-spot network.

    With y the noisy patch, f the network with hole ``k_train``, and h1, h2 the two ways to replace every pixel by a
    pixel of its 3 x 3 window (``replace_adjacent``, with the same draw for y and for f(y))::

        L_rec = mean | f(h1 y) - h2 y |
        L_reg = mean | f(h1 y) - h2 y - (h1 f(y) - h2 f(y)) |
        L     = L_rec + weight_reg L_reg

    As published, f(y) is not detached: both passes are differentiated. They run as one batch.

    Args:
        net: a blind-spot network; APRBSN is the published one.
        k_train: hole while training.
        k_test: hole while denoising, or ``mean``: the mean over the network's ``family``.
        weight_reg: weight of L_reg; L_rec has the weight 1.

    Raises:
        UserError: ``net`` has no such hole.
    """

    def __init__(
        self,
        net: Network,
        k_train: int = 9,
        k_test: Hole = 1,
        weight_reg: NonNegativeFloat = 4.0,
    ) -> None:
        super().__init__(net, k_train, k_test)
        self.weight_reg = weight_reg

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        return self.pair_losses(batch["noisy"], draw_pairs(batch["noisy"]))

    def pair_losses(self, noisy: Tensor, pairs: Tensor) -> dict[str, Tensor]:
        """Compute the losses of ``noisy`` (B, 3, H, W) for ``pairs`` (B, H, W) of ``ops.adjacent.draw_pairs``."""
        first, second = replace_adjacent(noisy, pairs)
        of_first, of_noisy = self.net(torch.cat((first, noisy)), k=self.k_train).chunk(2)
        error = of_first - second
        clean_first, clean_second = replace_adjacent(of_noisy, pairs)
        loss_rec = error.abs().mean()
        loss_reg = (error - (clean_first - clean_second)).abs().mean()
        return {"loss": loss_rec + self.weight_reg * loss_reg, "rec": loss_rec.detach(), "reg": loss_reg.detach()}

    def metadata(self) -> dict[str, Any]:
        return {"k_train": self.k_train}
