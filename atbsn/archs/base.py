"""The base classes of all networks: how a network denoises a whole picture, and how its weights are recognised."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from atbsn.ops.autocast import outside_autocast
from atbsn.ops.blind_spot import blind_spot_shift
from atbsn.ops.surround import surrounded
from atbsn.registry.build import check_arguments, parameter_names
from atbsn.utils.errors import UserError
from atbsn.utils.types import Hole, NonNegativeInt

Tiled = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""``tiled(function, x)`` applies ``function`` to ``x`` (B, C, H, W), at once or tile by tile."""

FINISHING = ("strength", "luma", "colour", "detail", "hot_pixels", "banding", "enlarged")
"""Settings that every network has besides the keywords of its own ``denoise``; ``engine.inference.finish`` applies
them."""


@cache  # they are needed for every picture
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def untiled(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply ``function`` to the whole picture at once."""
    return function(x)


def in_a_margin(function: Callable[[Tensor], Tensor], margin: int) -> Callable[[Tensor], Tensor]:
    """Make a function of a picture that applies ``function`` with ``margin`` pixels of reflection (``surrounded``)."""
    return partial(surrounded, function, pad=margin) if margin else function


def in_full_precision(function: Callable[..., Tensor], weight: Tensor, *inputs: Tensor) -> Tensor:
    """Apply the last layer, a ``function`` with this ``weight``, outside of autocast, in the type of the weight.

    In bfloat16 a grey value between 128 and 255 would be rounded to a whole number, which costs 0.03 dB.
    """
    inputs = tuple(x.to(weight.dtype) for x in inputs)
    with outside_autocast(weight.device):
        return function(*inputs)


def seeded(generator: torch.Generator | None, noisy: Tensor) -> torch.Generator:
    """Return ``generator``, or a new one with seed 0 on the device of ``noisy``, for a network that draws numbers.

    Draw with ``device=generator.device``, for the whole picture at once, outside of ``tiled``.
    """
    if generator is not None:
        return generator
    device = "cpu" if noisy.device.type == "meta" else noisy.device
    return torch.Generator(device).manual_seed(0)


class Network(nn.Module):
    """Base of all architectures: an ``nn.Module`` that knows how it denoises a whole picture.

    Tensors are (B, 3, H, W), RGB, float in [0, 255], or (B, C, H, W) for a network with other ``channels``.
    """

    channels: int = 3
    """Number of channels of the pictures: 3 for RGB, 1 for grey, or as many as the data have. A network that can be
    built for other numbers takes ``channels`` as an argument."""

    size_multiple: int = 1
    """Pixels: sides of training patches must be multiples of this (2 to the number of poolings)."""

    tile_overlap: int = 32
    """Pixels that neighbouring tiles share by default. Tiles give the same as one pass if the network sees no farther
    than the context that this leaves: a quarter of it, or all but the 16 pixels in its middle."""

    sees_whole_tile: bool = False
    """Whether every output pixel depends on the whole tile, as with attention or a mean over it. Tiles then keep the
    size of the training patch, even on a device where larger ones would fit."""

    output_scale: int = 1
    """Side of the output of ``forward`` divided by that of its input."""

    blind_forward: bool = False
    """Whether no output of ``forward`` depends on the input pixel at its own place, so that reconstruction trains it
    (``ReconstructionModel``)."""

    @property
    def tile_multiple(self) -> int:
        """Tiles begin at multiples of this, so that poolings meet the same pixels as in the whole picture."""
        return self.size_multiple

    options: dict[str, Any] | None
    """The options that ``build_arch`` built it from, defaults included; weight files carry them."""

    denoise_settings: dict[str, Any]
    """Keywords of ``denoise`` that its weights were trained for, from the weight file."""

    trained_patch: int | None
    """Pixels: side of the patches that its weights were trained on, from the weight file."""

    def __init__(self) -> None:
        super().__init__()
        self.options = None
        self.denoise_settings = {}
        self.trained_patch = None

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled, *, margin: NonNegativeInt = 0) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape back, not clipped.

        This is the only way from a noisy picture to a clean one. A network that has settings declares them as keywords
        with types and defaults, ``denoise(self, noisy, tiled=untiled, *, k: int = 3)``. They are checked like
        constructor arguments. A network that draws random numbers also declares ``generator: torch.Generator | None =
        None``, which users cannot give: it is seeded by the picture's pixels (see ``seeded``).

        Args:
            tiled: applies the network to the picture, tile by tile. What needs the whole picture, such as C-BSN's
                statistics, is computed outside of it.
            margin: pixels of reflection around the picture, or around every tile of it, that are cut off again. 0 is
                what is published. Zeros beyond an edge make the error along it larger; with 32 it is that of the
                inside.
        """
        return tiled(in_a_margin(self, margin), noisy)

    @classmethod
    def denoise_keywords(cls) -> list[str]:
        """The settings of ``denoise`` that a user may give."""
        return parameter_names(cls.denoise, cls._reserved())

    @classmethod
    def check_denoise(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Convert ``settings`` to the types that ``denoise`` declares.

        Raises:
            UserError: one line for every keyword that ``denoise`` does not have or value that it does not take.
        """
        return check_arguments(cls.denoise, settings, cls._reserved())

    @classmethod
    def draws(cls) -> bool:
        """Whether ``denoise`` draws random numbers."""
        return "generator" in _parameters(cls.denoise)

    @classmethod
    def is_local(cls) -> bool:
        """Whether ``denoise`` only applies a function tile by tile, so that bands of a picture can be done one by one.

        A network with a ``denoise`` of its own that does only this overrides this method.
        """
        return cls.denoise is Network.denoise

    @classmethod
    def example(cls) -> dict[str, Any]:
        """Constructor arguments of a tiny network for the tests of all networks; by default width 2, if it has one."""
        return {"width": 2} if "width" in inspect.signature(cls).parameters else {}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        """Find the constructor arguments from the names and shapes of a state dict; None if it is another network's."""
        del shapes
        return None

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Convert this network's weights from other people's names to ours.

        None if they have our names already, or are another network's.
        """
        del state
        return None

    @classmethod
    def lookalikes(cls, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Options of other networks whose weights have the same names and shapes as this one with these ``arguments``.

        A file that does not name its network may be of any of them. It is then tried on a picture with each
        (``atbsn.archs.lookalikes``).
        """
        del arguments
        return []

    @classmethod
    def _reserved(cls) -> tuple[str, ...]:
        """Parameters of ``denoise`` that are not for the user to give."""
        parameters = _parameters(cls.denoise).values()
        return ("generator", *(each.name for each in parameters if each.kind != inspect.Parameter.KEYWORD_ONLY))


class BlindSpotNetwork(Network, ABC):
    """A network with an adjustable blind spot (hole) ``k``: no output pixel sees the k x k square around it.

    ``net(noisy, k=3)`` is the output for one hole, ``net.forward_teachers(noisy, ks=(0, 1, 3))`` that for several.
    ``BSNModel`` trains any such network, and ``DistillModel`` takes any as the teacher.
    """

    family: tuple[int, ...] = (0, 1, 3, 5, 7, 9, 11)
    """The holes that ``k="mean"`` averages over: AT-BSN's published teachers, unless a network has its own."""

    @abstractmethod
    def forward(self, noisy: Tensor, k: int = 3) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size, with hole ``k``; the same shape, not clipped.

        Raises:
            UserError: ``check_hole`` refuses the hole.
        """

    def forward_teachers(self, noisy: Tensor, ks: Sequence[int] = (0, 1, 3, 5, 7, 9, 11)) -> Tensor:
        """Compute ``forward`` with every hole of ``ks``: (B, 3, H, W) -> (K, B, 3, H, W).

        Raises:
            UserError: ``check_hole`` refuses one, or ``ks`` is empty.
        """
        self.check_holes(ks)
        return torch.stack([self(noisy, k=k) for k in ks])

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled, *, k: Hole = 3, margin: NonNegativeInt = 0) -> Tensor:
        """Denoise as ``Network.denoise`` does, with hole ``k``, or with the mean over ``family`` from one feature pass.

        Args:
            k: blind spot; ``mean`` is the mean over the family.
            margin: as in ``Network.denoise``; 32 gave a trained ATBSN 0.18 to 0.36 dB more on blocks of 256 x 256.
        """
        return tiled(in_a_margin(lambda tile: self.at(tile, k), margin), noisy)

    def at(self, noisy: Tensor, k: Hole) -> Tensor:
        """Compute ``forward`` with hole ``k``, or for ``"mean"`` the mean of ``forward_teachers`` over ``family``."""
        return self.forward_teachers(noisy, self.family).mean(dim=0) if k == "mean" else self(noisy, k=k)

    def denoise_mean(self, noisy: Tensor, tiled: Tiled = untiled, **how: Any) -> Tensor:
        """Denoise with ``k="mean"``, even if the network's own ``denoise`` takes only numbers for ``k``.

        Args:
            how: the other keywords of ``denoise``.
        """
        if self._takes_mean():
            return self.denoise(noisy, tiled, k="mean", **how)
        return self.denoise_family(noisy, self.family, tiled, **how).mean(dim=0)

    def denoise_family(self, noisy: Tensor, ks: Sequence[int], tiled: Tiled = untiled, **how: Any) -> Tensor:
        """Denoise as ``denoise`` does, with every hole of ``ks``: (K, B, 3, H, W).

        It is one pass of ``forward_teachers``. A network with a ``denoise`` of its own calls that once for each hole,
        each time with the same random numbers.

        Args:
            how: the other keywords of ``denoise``.
        """
        if type(self).denoise is BlindSpotNetwork.denoise:
            return tiled(in_a_margin(lambda tile: self.forward_teachers(tile, ks), how.get("margin", 0)), noisy)
        self.check_holes(ks)
        generator = how.get("generator")
        state = None if generator is None else generator.get_state()
        outputs = []
        for k in ks:
            if generator is not None:
                generator.set_state(state)
            outputs.append(self.denoise(noisy, tiled, k=k, **how))
        return torch.stack(outputs)

    @classmethod
    def is_local(cls) -> bool:
        return cls.denoise is BlindSpotNetwork.denoise

    @classmethod
    def check_hole(cls, k: int) -> None:
        """Raise a ``UserError`` unless the network takes hole ``k``: 0 (not blind) or an odd number."""
        blind_spot_shift(k)

    @classmethod
    def check_holes(cls, ks: Sequence[int]) -> None:
        """Raise a ``UserError`` if ``ks`` is empty, or has a hole that the network does not take."""
        if not ks:
            raise UserError("ks is empty: name at least one blind spot, such as (0, 1, 3)")
        for k in ks:
            cls.check_hole(k)

    @classmethod
    def check_choice(cls, k: Hole) -> None:
        """Raise a ``UserError`` unless the network denoises with ``k``: a hole that it takes, or ``"mean"``."""
        if isinstance(k, str) and k != "mean":
            raise UserError(f"k = {k!r}: no blind spot; use a number such as 3, or mean (of the family)")
        if k != "mean":
            cls.check_hole(k)

    @classmethod
    def smallest_patch(cls, k: int) -> int:
        """Side, pixels, of the smallest square patch in which every pixel sees something beyond its hole ``k``."""
        return k + 1 if k else 1

    @classmethod
    def check_patch(cls, k: int, patch_size: int) -> None:
        """Raise a ``UserError`` if pixels of a square patch see nothing beyond their hole ``k``."""
        smallest = cls.smallest_patch(k)
        if patch_size < smallest:
            holes = (hole for hole in range(k, -1, -1) if cls._takes(hole) and cls.smallest_patch(hole) <= patch_size)
            raise UserError(
                f"this hole leaves pixels in the middle of a patch of {patch_size} nothing to see; use {next(holes)} "
                f"or less (the published ones are far smaller), or datasets.train.patch_size: {smallest} or more"
            )

    @classmethod
    def check_denoise(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        mean = settings.get("k") == "mean"  # taken even if ``denoise`` declares ``k: int``; see ``denoise_mean``
        checked = super().check_denoise({name: settings[name] for name in settings if not (mean and name == "k")})
        if mean:
            checked["k"] = "mean"
        elif "k" in checked:
            cls.check_choice(checked["k"])
        return checked

    @classmethod
    def _takes_mean(cls) -> bool:
        try:
            check_arguments(cls.denoise, {"k": "mean"}, cls._reserved())
        except UserError:
            return False
        return True

    @classmethod
    def _takes(cls, k: int) -> bool:
        try:
            cls.check_hole(k)
        except UserError:
            return False
        return True
