"""What every network of the framework offers beside ``forward``."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from atbsn.ops.autocast import outside_autocast
from atbsn.ops.blind_spot import blind_spot_shift
from atbsn.ops.padding import reflect_pad
from atbsn.registry.build import check_arguments, parameter_names
from atbsn.utils.errors import UserError
from atbsn.utils.types import Hole, NonNegativeInt

Tiled = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""``tiled(function, x)`` applies ``function`` to ``x`` (B, C, H, W), at once or tile by tile."""


FINISHING = ("strength", "luma", "colour", "detail", "hot_pixels", "banding", "enlarged")
"""Settings that every network has beside the keywords of its own ``denoise``: ``engine.inference.finish`` does them."""


@cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of ``function``, which are asked for with every picture."""
    return inspect.signature(function).parameters


def untiled(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply ``function`` to the whole picture at once."""
    return function(x)


def in_a_margin(function: Callable[[Tensor], Tensor], margin: int) -> Callable[[Tensor], Tensor]:
    """``function``, (B, C, h, w) -> (..., h, w), on a picture with ``margin`` reflected pixels around, cut off again.

    Convolutions see zeros beyond an edge, where the scene goes on: the error is larger along it.
    """
    if margin == 0:
        return function

    def within(x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        output = function(reflect_pad(x, margin, margin, margin, margin))
        return output[..., margin : margin + height, margin : margin + width]

    return within


def in_full_precision(function: Callable[..., Tensor], weight: Tensor, *inputs: Tensor) -> Tensor:
    """Apply the last layer, a ``function`` with this ``weight``, outside of autocast, in the type of the weight.

    A bfloat16 grey value between 128 and 255 is rounded to a whole number, which would cost 0.03 dB.
    """
    inputs = tuple(x.to(weight.dtype) for x in inputs)
    with outside_autocast(weight.device):
        return function(*inputs)


def seeded(generator: torch.Generator | None, noisy: Tensor) -> torch.Generator:
    """``generator``, or one seeded 0 on the device of ``noisy``, for a network that draws while it denoises.

    Draw with ``device=generator.device``, for the whole picture at once, outside of ``tiled``.
    """
    if generator is not None:
        return generator
    device = "cpu" if noisy.device.type == "meta" else noisy.device
    return torch.Generator(device).manual_seed(0)


class Network(nn.Module):
    """Base of all architectures: an ``nn.Module`` that knows how it denoises a whole picture.

    Tensors are (B, 3, H, W), RGB, float in [0, 255]; or (B, C, H, W) of a network with other ``channels``.
    """

    channels: int = 3
    """Channels of the pictures it is for: 3 RGB, 1 grey, or as many as its data have. A network that can have others
    takes them as an argument."""

    size_multiple: int = 1
    """Training patches must be a multiple of this (2 to the number of poolings)."""

    tile_overlap: int = 32
    """Pixels that neighbouring tiles share unless told otherwise. A network that looks no farther than the context that
    this leaves (a quarter of it, or all but 16 pixels in its middle) gives in tiles what it gives in one pass."""

    sees_whole_tile: bool = False
    """Whether every pixel depends on all of a tile (attention over it, its mean). Tiles then keep the size of the
    training patch, also on a device where larger ones would fit."""

    @property
    def tile_multiple(self) -> int:
        """Tiles begin at multiples of this, so that poolings fall on them as they fall on the whole picture."""
        return self.size_multiple

    options: dict[str, Any] | None
    """What ``build_arch`` built it from, defaults included; weight files carry it."""

    denoise_settings: dict[str, Any]
    """Keywords of ``denoise`` that its weights were trained for, from the weight file."""

    trained_patch: int | None
    """Side of the patches that its weights were trained on, from the weight file."""

    def __init__(self) -> None:
        super().__init__()
        self.options = None
        self.denoise_settings = {}
        self.trained_patch = None

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled, *, margin: NonNegativeInt = 0) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape back, not clipped.

        The only way from a noisy picture to a clean one. A network that has settings declares them as keywords
        with types and defaults, ``denoise(self, noisy, tiled=untiled, *, k: int = 3)``; they are checked like
        constructor arguments. One that draws random numbers also declares ``generator: torch.Generator | None =
        None``, which users cannot give: it is seeded by the picture's pixels (see ``seeded``).

        Args:
            tiled: how the network is laid over the picture. What needs the whole picture (C-BSN's statistics)
                is computed outside of it.
            margin: pixels that are reflected around the picture, or every tile of it, and cut off again. 0 is what is
                published; 32 make the error at the edges, which zeros beyond them cause, that of the inside.
        """
        return tiled(in_a_margin(self, margin), noisy)

    @classmethod
    def denoise_keywords(cls) -> list[str]:
        """The settings of ``denoise`` that a user may give."""
        return parameter_names(cls.denoise, cls._reserved())

    @classmethod
    def check_denoise(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """``settings`` converted to the types that ``denoise`` declares.

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
        """Whether ``denoise`` does nothing but lay a function over the picture, so that bands of it can be done apart.

        A network whose own ``denoise`` is like that says so by overriding this.
        """
        return cls.denoise is Network.denoise

    @classmethod
    def example(cls) -> dict[str, Any]:
        """Constructor arguments of a tiny network, which the tests of all networks use: width 2 where there is one."""
        return {"width": 2} if "width" in inspect.signature(cls).parameters else {}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        """The constructor arguments of a bare state dict with these key names and shapes; None if not ours."""
        del shapes
        return None

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """This network's weights under other people's names, as ours; None if they are ours already, or another's."""
        del state
        return None

    @classmethod
    def lookalikes(cls, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Options of other networks whose weights have the names and shapes of this one with these ``arguments``.

        Bare files, which say no network, leave them open: they are then told apart by what they do to a picture.
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

    ``net(noisy, k=3)`` and, for several holes, ``net.forward_teachers(noisy, ks=(0, 1, 3))``. Distillation and
    BSN training take any of them.
    """

    family: tuple[int, ...] = (0, 1, 3, 5, 7, 9, 11)
    """Holes whose mean ``denoise`` gives with ``k="mean"``: the published teachers, unless a network has its own."""

    @abstractmethod
    def forward(self, noisy: Tensor, k: int = 3) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size, with hole ``k``; the same shape, not clipped.

        Raises:
            UserError: a hole that ``check_hole`` refuses.
        """

    def forward_teachers(self, noisy: Tensor, ks: Sequence[int] = (0, 1, 3, 5, 7, 9, 11)) -> Tensor:
        """``forward`` with every hole of ``ks``: (B, 3, H, W) -> (K, B, 3, H, W).

        Raises:
            UserError: ``check_hole`` refuses one, or ``ks`` is empty.
        """
        self.check_holes(ks)
        return torch.stack([self(noisy, k=k) for k in ks])

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled, *, k: Hole = 3, margin: NonNegativeInt = 0) -> Tensor:
        """As ``Network.denoise``, with hole ``k``, or with the mean over ``family`` from one feature pass.

        Args:
            k: blind spot; ``mean`` is the mean over the family.
            margin: as in ``Network.denoise``; 32 gave a trained ATBSN +0.18 to +0.36 dB a block of 256 x 256.
        """
        return tiled(in_a_margin(lambda tile: self.at(tile, k), margin), noisy)

    def at(self, noisy: Tensor, k: Hole) -> Tensor:
        """``forward`` with hole ``k``, or for ``"mean"`` the mean of ``forward_teachers`` over ``family``."""
        return self.forward_teachers(noisy, self.family).mean(dim=0) if k == "mean" else self(noisy, k=k)

    def denoise_mean(self, noisy: Tensor, tiled: Tiled = untiled, **how: Any) -> Tensor:
        """``denoise`` with ``k="mean"``, also of a network whose own ``denoise`` knows only holes that are numbers.

        Args:
            how: the other keywords of ``denoise``.
        """
        if self._takes_mean():
            return self.denoise(noisy, tiled, k="mean", **how)
        return self.denoise_family(noisy, self.family, tiled, **how).mean(dim=0)

    def denoise_family(self, noisy: Tensor, ks: Sequence[int], tiled: Tiled = untiled, **how: Any) -> Tensor:
        """As ``denoise``, with every hole of ``ks``: (K, B, 3, H, W).

        One pass of ``forward_teachers``; or, in a network that has a ``denoise`` of its own, one ``denoise`` for
        each hole, all drawing the same random numbers.

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
        """Raise a ``UserError`` unless ``ks`` names holes, all of which the network takes."""
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
        """Side of the smallest square patch in which every pixel sees something through hole ``k``."""
        return k + 1 if k else 1

    @classmethod
    def check_patch(cls, k: int, patch_size: int) -> None:
        """Raise a ``UserError`` if hole ``k`` leaves pixels of a square patch nothing to see."""
        smallest = cls.smallest_patch(k)
        if patch_size < smallest:
            holes = (hole for hole in range(k, -1, -1) if cls._takes(hole) and cls.smallest_patch(hole) <= patch_size)
            raise UserError(
                f"this hole leaves pixels in the middle of a patch of {patch_size} nothing to see; use {next(holes)} "
                f"or less (the published ones are far smaller), or datasets.train.patch_size: {smallest} or more"
            )

    @classmethod
    def check_denoise(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        mean = settings.get("k") == "mean"  # which a ``denoise`` that declares ``k: int`` does not have to know
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
