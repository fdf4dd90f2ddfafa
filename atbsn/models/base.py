"""What a training method is: which networks, which losses."""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.data.base import ImageSet
from atbsn.utils.errors import UserError

N = TypeVar("N", bound=Network)


def cleaned_by(teacher: Network, noisy: Tensor) -> Tensor:
    """What ``teacher`` makes of patches (B, 3, H, W): with a blind spot, the mean over its ``family``. In [0, 255]."""
    clean = teacher.denoise_mean(noisy) if isinstance(teacher, BlindSpotNetwork) else teacher(noisy)
    return clean.float().clamp(0, 255)


def check_channels(teacher: Network, name: str | None, channels: int) -> None:
    """Raise a ``UserError`` if the ``teacher`` of this file name is for other than so many ``channels``."""
    if teacher.channels != channels:
        raise UserError(
            f"model.teacher: {name}: is for {teacher.channels} channels, the network for {channels}; "
            "name a teacher of as many, or set network.channels"
        )


class Model(nn.Module):
    """Base of all training methods.

    A method never sees optimizers, files, loggers or metrics, and denoises nothing: its network does. Its trainable
    network is ``self.net``: the one that is optimised, averaged and saved. Calling the method gives its losses, so
    that ``DistributedDataParallel`` and ``torch.compile`` wrap the method as a whole.

    Args:
        net: the network to train.

    Attributes:
        picture_channels: of the pictures that it learns from, where they are not what the network denoises.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.frozen: list[Network] = []
        self.net = net
        self.picture_channels = net.channels

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        """Raise a ``UserError`` that names the option if the method cannot train such a network, or not so.

        Called for option files before anything is built, and by the constructors of methods that have such rules.

        Args:
            arguments: the method's own, defaults included.
        """
        del net_class, arguments

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        """Training patches must be a multiple of this many pixels.

        Args:
            arguments: the method's own, defaults included.
        """
        del arguments
        return net_class.size_multiple

    def prepare(self, images: ImageSet, seed: int) -> None:
        """Called once before a training begins, not when it is resumed: learn from all pictures what is needed.

        What is learned goes into buffers of the method, which its training states keep (``own_state``).

        Args:
            images: the noisy pictures, decoded; ``images.crop`` is fast.
            seed: of the training.
        """
        del images, seed

    def own_state(self) -> dict[str, Tensor]:
        """Buffers of the method itself, beside its network: what ``prepare`` learned."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("net.")}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Take over ``own_state`` of the training that is resumed."""
        self.load_state_dict(state, strict=False)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Arguments with which the tests of all methods build it; what they need to have is written to ``folder``."""
        del folder
        return {}

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        """The losses of one batch.

        Args:
            batch: ``batch["noisy"]``, (B, 3, P, P), RGB, float in [0, 255], and ``batch["index"]``, (B,), of their
                pictures, on the CPU. There is never a clean picture in it.
            progress: scalar tensor, iterations done / iterations in all, in [0, 1].

        Returns:
            Scalars by name. ``"loss"`` is minimised; every other one is only logged (detached).
        """
        raise TypeError(f"{type(self).__name__} does not define losses()")

    def forward(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        return self.losses(batch, progress)

    @classmethod
    def check_patch(cls, net_class: type[Network], arguments: dict[str, Any], patch_size: int) -> None:
        """Raise a ``UserError`` if patches of this side are too small for what ``arguments`` ask, such as a hole.

        Called after ``check_network``, with the same arguments.
        """
        del net_class, arguments, patch_size

    def denoise_settings(self) -> dict[str, Any]:
        """Keywords of the network's ``denoise`` that it is trained for; they travel with the weights.

        They lie over the network's defaults and under ``test.denoise`` of an option file.
        """
        return {}

    def metadata(self) -> dict[str, Any]:
        """What the weight file should say about the method, in plain values."""
        return {}

    def keep_frozen(self, network: N) -> N:
        """Keep a helper, such as a teacher: ``self.teacher = self.keep_frozen(load(path))``.

        It is in evaluation mode, and no sub-module: neither trained, saved nor synchronised between processes, but it
        follows the method to its device, type and memory format. A resumed training must have the same.
        """
        self.frozen.append(network.requires_grad_(False).eval())
        return network

    def frozen_sha256(self) -> list[str]:
        """A checksum of each helper's weights, in the order in which they were kept."""
        return [_checksum(network) for network in self.frozen]

    def __setattr__(self, name: str, value: Any) -> None:
        if any(value is network for network in self.__dict__.get("frozen", ())):
            object.__setattr__(self, name, value)  # past nn.Module, which would make a sub-module of it
        else:
            super().__setattr__(name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Model":
        """Every conversion (to, cuda, bfloat16, channels-last, ...) comes through here; take the helpers along."""
        for network in self.frozen:
            network._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _checksum(network: Network) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def epoch_of(progress: Tensor, epochs: int) -> Tensor:
    """Which of ``epochs`` equal parts of the run ``progress`` in [0, 1] lies in: 1 ... ``epochs``."""
    return ((progress * epochs).floor() + 1).clamp(max=epochs)


def check_plain(net_class: type[Network]) -> None:
    """Raise a ``UserError`` unless it is an ordinary network: no blind spot, no input but the picture."""
    if issubclass(net_class, BlindSpotNetwork):
        raise UserError(f"network.type: {net_class.__name__} has a blind spot; use an ordinary network, such as UNet")
    _, _, *others = inspect.signature(net_class.forward).parameters.values()  # self, noisy
    needed = [each.name for each in others if each.default is each.empty]
    if needed:
        raise UserError(
            f"network.type: {net_class.__name__} needs {', '.join(needed)} beside the picture; "
            "use an ordinary network, such as UNet"
        )


def check_stds(flat_std: float, texture_std: float) -> None:
    """Raise a ``UserError`` unless ``texture_weight`` can tell flat regions from texture by them."""
    if flat_std > texture_std:
        raise UserError(f"model.flat_std: {flat_std} exceeds texture_std = {texture_std}; lower it")
