"""NSP's training (CVPR 2026): every pixel of a cell predicts a block of four pixels in it."""

from typing import Any

from torch import Tensor

from atbsn.archs.base import Network
from atbsn.archs.nsp import NSP
from atbsn.models.base import Model
from atbsn.ops.sub_pixels import CELL, NUM_INPUTS, draw_order, split_cells
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError


@MODELS.register
class NSPModel(Model):
    """Neighbouring sub-pixels: L = mean over j of mean |net(s_j) - t|.

    In each 5 x 5 cell a block of 2 x 2 contiguous pixels is drawn: together they are t, (B, 3, 2H/5, 2W/5). The other
    21 pixels of the cell, in random order, make the inputs s_1 ... s_21, (B, 3, H/5, W/5). They run as one batch.

    Args:
        net: an ``NSP``.

    Raises:
        UserError: ``net`` is not an ``NSP``.
    """

    def __init__(self, net: Network) -> None:
        super().__init__(net)
        self.check_network(type(net), {})

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if not issubclass(net_class, NSP):
            raise UserError(f"network.type: {net_class.__name__} does not put out twice the size; use NSP")

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return CELL

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        return {"loss": self.order_loss(batch["noisy"], draw_order(batch["noisy"]))}

    def order_loss(self, noisy: Tensor, order: Tensor) -> Tensor:
        """Compute the loss of ``noisy`` (B, 3, H, W) for an ``order`` of ``ops.sub_pixels.draw_order``."""
        target, inputs = split_cells(noisy, order)
        outputs = self.net(inputs.flatten(0, 1)).unflatten(0, (NUM_INPUTS, -1))
        return (outputs - target).abs().mean()
