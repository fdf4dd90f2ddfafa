"""What a training method is: which networks, which losses, how it denoises."""

from typing import Any

from torch import Tensor, nn

from atbsn.archs.base import Network, Tiled, untiled


class Model(nn.Module):
    """Base of all training methods.

    A method never sees optimizers, files, loggers or metrics. Its trainable network is ``self.net``: the one
    that is optimised, averaged and saved. Calling the method gives its losses, so that
    ``DistributedDataParallel`` and ``torch.compile`` wrap the method as a whole.

    Args:
        net: the network to train.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        """Training patches must be a multiple of this many pixels, given the method's own arguments."""
        del arguments
        return net_class.size_multiple

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        """The losses of one batch.

        Args:
            batch: ``batch["noisy"]``, (B, 3, P, P), RGB, float in [0, 255]. There is never a clean picture in it.
            progress: scalar tensor, iterations done / iterations in all, in [0, 1].

        Returns:
            Scalars by name. ``"loss"`` is minimised; every other one is only logged (detached).
        """
        raise TypeError(f"{type(self).__name__} does not define losses()")

    def forward(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        return self.losses(batch, progress)

    def denoise(self, noisy: Tensor, k: int | None = None, tiled: Tiled = untiled) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], as the method does at test time; not clipped.

        Args:
            k: another blind spot than the method's own, for networks that have one.
            tiled: how the network is laid over the picture; see ``Network.denoise``.
        """
        own = {} if k is None else {"k": k}
        return self.net.denoise(noisy, tiled=tiled, **own)

    def metadata(self) -> dict[str, Any]:
        """What the weight file should say about the method, in plain values."""
        return {}
