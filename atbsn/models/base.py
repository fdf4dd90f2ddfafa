"""The base class of training methods, and checks that several of them share."""

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
    """Denoise patches (B, 3, H, W) by ``teacher``, clipped to [0, 255].

    A teacher with a blind spot gives the mean over its ``family``.
    """
    clean = teacher.denoise_mean(noisy) if isinstance(teacher, BlindSpotNetwork) else teacher(noisy)
    return clean.float().clamp(0, 255)


def check_teacher_channels(teacher: Network, name: str | None, channels: int) -> None:
    """Raise a ``UserError`` if the ``teacher``, from the file ``name``, is not for this number of ``channels``."""
    if teacher.channels != channels:
        raise UserError(
            f"model.teacher: {name}: is for {teacher.channels} channels, the network for {channels}; "
            "name a teacher of as many, or set network.channels"
        )


class Model(nn.Module):
    """Base of all training methods.

    A method never sees optimizers, files, loggers or metrics, and it does not denoise: its network does. ``self.net``
    is the network that is trained, averaged and saved. Calling the method returns its losses, so that
    ``DistributedDataParallel`` and ``torch.compile`` wrap the method as a whole.

    Args:
        net: the network to train.

    Attributes:
        picture_channels: number of channels of the pictures that it learns from. It differs from the network's if, as
            for raw data, the network denoises something else.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.frozen: list[Network] = []
        self.net = net
        self.picture_channels = net.channels

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        """Raise a ``UserError`` that names the option if the method cannot train such a network with ``arguments``.

        It is called for option files before anything is built, and by the constructors of methods that have such rules.

        Args:
            arguments: the method's arguments, defaults included.
        """
        del net_class, arguments

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        """Give the number of pixels that the sides of training patches must be a multiple of.

        Args:
            arguments: the method's arguments, defaults included.
        """
        del arguments
        return net_class.size_multiple

    def prepare(self, images: ImageSet, seed: int) -> None:
        """Learn from all pictures what the method needs. It is called when a training begins, not when it is resumed.

        What is learned goes into buffers of the method, which the training's states keep (``own_state``).

        Args:
            images: the noisy pictures, decoded; ``images.crop`` is fast.
            seed: the seed of the training.
        """
        del images, seed

    def own_state(self) -> dict[str, Tensor]:
        """The buffers of the method itself, without its network: what ``prepare`` learned."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("net.")}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Load the ``own_state`` of the training that is resumed."""
        self.load_state_dict(state, strict=False)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Constructor arguments for the tests of all methods. Files that they name are written to ``folder``."""
        del folder
        return {}

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        """Compute the losses of one batch.

        Args:
            batch: ``batch["noisy"]``, (B, 3, P, P), RGB, float in [0, 255], and ``batch["index"]``, (B,), the indices
                of their pictures, on the CPU. There is never a clean picture in it.
            progress: scalar tensor: iterations done, divided by all iterations, in [0, 1].

        Returns:
            Scalars by name. ``"loss"`` is minimised; the others, detached, are only logged.
        """
        raise TypeError(f"{type(self).__name__} does not define losses()")

    def forward(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        return self.losses(batch, progress)

    @classmethod
    def check_patch(cls, net_class: type[Network], arguments: dict[str, Any], patch_size: int) -> None:
        """Raise a ``UserError`` if patches with this side, pixels, are too small for ``arguments``, such as a hole.

        It is called after ``check_network``, with the same arguments.
        """
        del net_class, arguments, patch_size

    def denoise_settings(self) -> dict[str, Any]:
        """The keywords of the network's ``denoise`` that it is trained for; they are saved with the weights.

        They replace the network's defaults, and ``test.denoise`` of an option file replaces them.
        """
        return {}

    def metadata(self) -> dict[str, Any]:
        """What the weight file says about the method, in plain values."""
        return {}

    def keep_frozen(self, network: N) -> N:
        """Keep a network that is not trained, such as a teacher: ``self.teacher = self.keep_frozen(load(path))``.

        It is set to evaluation mode. It does not become a sub-module, so it is neither trained, saved nor synchronised
        between processes, but it follows the method to its device, type and memory format. A resumed training must
        have the same one.
        """
        self.frozen.append(network.requires_grad_(False).eval())
        return network

    def frozen_sha256(self) -> list[str]:
        """The checksum of the weights of each frozen network, in the order in which they were kept."""
        return [_checksum(network) for network in self.frozen]

    def __setattr__(self, name: str, value: Any) -> None:
        if any(value is network for network in self.__dict__.get("frozen", ())):
            object.__setattr__(self, name, value)  # nn.Module would make it a sub-module
        else:
            super().__setattr__(name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Model":
        """Convert the frozen networks too. Every conversion (to, cuda, bfloat16, channels-last, ...) calls this."""
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
    """Give the number, 1 to ``epochs``, of the part of the run that ``progress`` in [0, 1] lies in, of equal parts."""
    return ((progress * epochs).floor() + 1).clamp(max=epochs)


def check_plain(net_class: type[Network], use: str = "an ordinary network, such as UNet") -> None:
    """Raise a ``UserError`` unless it is an ordinary network: no blind spot, no other input, an output of equal size.

    Args:
        use: the networks that the message recommends.
    """
    if issubclass(net_class, BlindSpotNetwork):
        raise UserError(f"network.type: {net_class.__name__} has a blind spot; use {use}")
    if net_class.output_scale != 1:
        raise UserError(f"network.type: {net_class.__name__} changes the size of the picture; use {use}")
    _, _, *others = inspect.signature(net_class.forward).parameters.values()  # self, noisy
    needed = [
        each.name
        for each in others
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if needed:
        raise UserError(f"network.type: {net_class.__name__} needs {', '.join(needed)} beside the picture; use {use}")


def check_stds(flat_std: float, texture_std: float) -> None:
    """Raise a ``UserError`` unless ``flat_std`` is at most ``texture_std``, as ``texture_weight`` needs."""
    if flat_std > texture_std:
        raise UserError(f"model.flat_std: {flat_std} exceeds texture_std = {texture_std}; lower it")
