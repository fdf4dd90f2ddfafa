"""AT-BSN's own training (arXiv 2303.16783, section 3): an L1 loss through a large blind spot."""

from torch import Tensor

from atbsn.archs.base import Network, Tiled, untiled
from atbsn.models.base import Model
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError
from atbsn.utils.types import BlindSpot


@MODELS.register
class BSNModel(Model):
    """Train blind with a large k, denoise with a smaller one: L = mean |F(y; k_train) - y|.

    Args:
        net: a blind-spot network.
        k_train: blind spot while training, large enough that the noise at its rim tells nothing about the pixel.
        k_test: blind spot while denoising.
    """

    def __init__(self, net: Network, k_train: BlindSpot = 9, k_test: BlindSpot = 3) -> None:
        if not net.blind_spots:
            raise UserError(f"BSNModel: {type(net).__name__} has no blind spot to train; use ATBSN")
        super().__init__(net)
        self.k_train, self.k_test = k_train, k_test

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        return {"loss": (self.net(noisy, k=self.k_train) - noisy).abs().mean()}

    def denoise(self, noisy: Tensor, k: int | None = None, tiled: Tiled = untiled) -> Tensor:
        return super().denoise(noisy, k=self.k_test if k is None else k, tiled=tiled)

    def metadata(self) -> dict[str, object]:
        return {"k_train": self.k_train, "k": self.k_test}
