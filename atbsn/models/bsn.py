"""AT-BSN's training of the teacher (arXiv 2303.16783, section 3): an L1 loss with a large blind spot."""

from typing import Any

from torch import Tensor

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.models.base import Model
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError, at_fault
from atbsn.utils.types import Hole


@MODELS.register
class BSNModel(Model):
    """Train with a large blind spot, denoise with a smaller one: L = mean |F(y; k_train) - y|.

    Args:
        net: a blind-spot network.
        k_train: blind spot while training, large enough that the noise outside of it is hardly correlated with that of
            the pixel.
        k_test: blind spot while denoising, or ``mean``: the mean over the network's ``family``.

    Raises:
        UserError: ``net`` has no blind spot, or does not take these.
    """

    net: BlindSpotNetwork

    def __init__(self, net: Network, k_train: int = 9, k_test: Hole = 3) -> None:
        super().__init__(net)
        self.check_network(type(net), {"k_train": k_train, "k_test": k_test})
        self.k_train, self.k_test = k_train, k_test

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if not issubclass(net_class, BlindSpotNetwork):
            raise UserError(f"network.type: {net_class.__name__} has no blind spot; use ATBSN, APRBSN, TMBSN")
        for name, check in (("k_train", net_class.check_hole), ("k_test", net_class.check_choice)):
            with at_fault(f"model.{name}: {arguments[name]}"):
                check(arguments[name])

    @classmethod
    def check_patch(cls, net_class: type[Network], arguments: dict[str, Any], patch_size: int) -> None:
        assert issubclass(net_class, BlindSpotNetwork)  # check_network has said so
        with at_fault(f"model.k_train: {arguments['k_train']}"):
            net_class.check_patch(arguments["k_train"], patch_size)

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        return {"loss": (self.net(noisy, k=self.k_train) - noisy).abs().mean()}

    def denoise_settings(self) -> dict[str, Any]:
        return {"k": self.k_test}

    def metadata(self) -> dict[str, Any]:
        return {"k_train": self.k_train, "k": self.k_test}
