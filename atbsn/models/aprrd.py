"""APR-RD's teacher (AAAI 2025): a large blind spot, and a regulariser over pairs of adjacent pixels."""

from typing import Any

import torch
from torch import Tensor

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.models.base import Model
from atbsn.ops.adjacent import draw_pairs, replace_adjacent
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError
from atbsn.utils.types import Hole, NonNegativeFloat


@MODELS.register
class APRRDModel(Model):
    """Adjacent pixel replacer over a blind-spot network.

    With y the noisy patch, f the network with hole ``k_train``, and h1, h2 two pictures of one, every pixel of which
    is another pixel of its 3 x 3 window (the same draw for y and for f(y))::

        L_rec = mean | f(h1 y) - h2 y |
        L_reg = mean | f(h1 y) - h2 y - (h1 f(y) - h2 f(y)) |
        L     = L_rec + weight_reg L_reg

    As published, f(y) is not detached: both passes are differentiated. They run as one batch.

    Args:
        net: a blind-spot network; APRBSN is the published one.
        k_train: hole while training.
        k_test: hole while denoising, or ``mean``: the mean over the network's ``family``.
        weight_reg: of L_reg against L_rec.

    Raises:
        UserError: ``net`` has no such hole.
    """

    net: BlindSpotNetwork

    def __init__(
        self,
        net: Network,
        k_train: int = 9,
        k_test: Hole = 1,
        weight_reg: NonNegativeFloat = 4.0,
    ) -> None:
        super().__init__(net)
        self.check_network(type(net), {"k_train": k_train, "k_test": k_test})
        self.k_train, self.k_test, self.weight_reg = k_train, k_test, weight_reg

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if not issubclass(net_class, BlindSpotNetwork):
            raise UserError(f"network.type: {net_class.__name__} has no blind spot; use APRBSN")
        for name, check in (("k_train", net_class.check_hole), ("k_test", net_class.check_choice)):
            try:
                check(arguments[name])
            except UserError as error:
                raise UserError(f"model.{name}: {arguments[name]}: {error}") from None

    @classmethod
    def check_patch(cls, net_class: type[Network], arguments: dict[str, Any], patch_size: int) -> None:
        assert issubclass(net_class, BlindSpotNetwork)  # check_network has said so
        try:
            net_class.check_patch(arguments["k_train"], patch_size)
        except UserError as error:
            raise UserError(f"model.k_train: {arguments['k_train']}: {error}") from None

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        return self.pair_losses(batch["noisy"], draw_pairs(batch["noisy"]))

    def pair_losses(self, noisy: Tensor, pairs: Tensor) -> dict[str, Tensor]:
        """The losses of ``noisy`` (B, 3, H, W) for the draw ``pairs`` (B, H, W) of ``ops.adjacent``."""
        first, second = replace_adjacent(noisy, pairs)
        of_first, of_noisy = self.net(torch.cat((first, noisy)), k=self.k_train).chunk(2)
        error = of_first - second
        clean_first, clean_second = replace_adjacent(of_noisy, pairs)
        loss_rec = error.abs().mean()
        loss_reg = (error - (clean_first - clean_second)).abs().mean()
        return {"loss": loss_rec + self.weight_reg * loss_reg, "rec": loss_rec.detach(), "reg": loss_reg.detach()}

    def denoise_settings(self) -> dict[str, Any]:
        return {"k": self.k_test}

    def metadata(self) -> dict[str, Any]:
        return {"k_train": self.k_train}
