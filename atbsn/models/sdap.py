"""SDAP's training (Pan et al., ICCV 2023, arXiv 2307.16825)."""

from typing import Any

from torch import Tensor

from atbsn.archs.apbsn import SDAP, Stride
from atbsn.archs.base import Network
from atbsn.models.base import Model
from atbsn.ops.permutation import draw_permutations, permuted_sub_images
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError


@MODELS.register
class SDAPModel(Model):
    """Each random sub-image predicts the next: L = sum over j of mean |B(s_j) - s_(j+1 mod f*f)|, with y in [0, 1].

    s_0, s_1, ... are the f*f random sub-images of the patches; each cell of f x f pixels is permuted anew. The loss is
    a sum, as published, and so f*f times as large as a mean.

    Args:
        net: an ``SDAP``.
        stride: f, the side of a cell.
        enhance: denoise as SDAP (E), with a second pass at full resolution.

    Raises:
        UserError: ``net`` is not an ``SDAP``.
    """

    def __init__(self, net: Network, stride: Stride = 5, enhance: bool = True) -> None:
        super().__init__(net)
        self.check_network(type(net), {})
        self.stride, self.enhance = stride, enhance

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if not issubclass(net_class, SDAP):
            raise UserError(f"network.type: {net_class.__name__} is not SDAP's network; use SDAP")

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return arguments["stride"]

    def losses(
        self, batch: dict[str, Tensor], progress: Tensor, permutations: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the losses as ``Model.losses``; ``permutations`` are drawn if not given (``draw_permutations``)."""
        noisy = batch["noisy"]
        if permutations is None:
            permutations = draw_permutations(noisy, self.stride)
        subs = permuted_sub_images(noisy, permutations, self.stride)
        denoised = self.net(subs.flatten(0, 1)).unflatten(0, subs.shape[:2])
        distance = (denoised - subs.roll(-1, dims=0)).abs() / 255
        return {"loss": distance.mean(dim=(1, 2, 3, 4)).sum()}

    def denoise_settings(self) -> dict[str, Any]:
        return {"enhance": self.enhance}
