"""Training by reconstruction, for networks whose ``forward`` is blind: LG-BPN, PUCA, TBSN."""

from typing import Any

from torch import Tensor

from atbsn.archs.apbsn import Stride
from atbsn.archs.base import Network
from atbsn.models.base import Model
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError


@MODELS.register
class ReconstructionModel(Model):
    """L = mean |net(z) - z|, where no output of ``net(z)`` depends on its own pixel: AP-BSN's loss (arXiv 2203.11799).

    Args:
        net: a network whose ``forward`` is blind, and whose ``denoise`` sees more.
        pd_train: z has every ``pd_train``-th pixel of the patch, down and across. 1 for networks that make sub-images
            themselves (LGBPN, PUCA), 5 for TBSN.
        denoise: keywords of ``denoise`` to save with the weights, such as {preset: dnd}.

    Raises:
        UserError: ``net`` is not blind, so that it would learn to repeat its input, or it has no such keywords.
    """

    def __init__(self, net: Network, pd_train: Stride = 1, denoise: dict[str, Any] | None = None) -> None:
        super().__init__(net)
        self.check_network(type(net), {"denoise": denoise})
        self.pd_train = pd_train
        self.settings = net.check_denoise(denoise or {})

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if not net_class.blind_forward:
            raise UserError(
                f"network.type: {net_class.__name__} sees the pixel it has to guess; use LGBPN, PUCA or TBSN"
            )
        try:
            net_class.check_denoise(arguments["denoise"] or {})
        except UserError as error:
            raise UserError("\n".join(f"model.denoise.{fault}" for fault in str(error).splitlines())) from None

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return arguments["pd_train"] * net_class.size_multiple

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"][..., :: self.pd_train, :: self.pd_train]
        return {"loss": (self.net(noisy) - noisy).abs().mean()}

    def denoise_settings(self) -> dict[str, Any]:
        return dict(self.settings)
