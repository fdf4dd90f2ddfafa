"""What every network of the framework offers beside ``forward``."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atbsn.ops.blind_spot import blind_spot_shift
from atbsn.registry.build import check_arguments, parameter_names
from atbsn.utils.errors import UserError

Tiled = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
"""``tiled(function, x)`` applies ``function`` to ``x`` (B, C, H, W), at once or tile by tile."""


def untiled(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply ``function`` to the whole picture at once."""
    return function(x)


def in_full_precision(function: Callable[..., Tensor], weight: Tensor, *inputs: Tensor) -> Tensor:
    """Apply the last layer, a ``function`` with this ``weight``, outside of autocast, in the type of the weight.

    A bfloat16 grey value between 128 and 255 is rounded to a whole number, which would cost 0.03 dB.
    """
    inputs = tuple(x.to(weight.dtype) for x in inputs)
    if weight.device.type == "meta":  # has shapes alone, and no autocast
        return function(*inputs)
    with torch.autocast(weight.device.type, enabled=False):
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

    Tensors are (B, 3, H, W), RGB, float in [0, 255].
    """

    size_multiple: int = 1
    """Training patches must be a multiple of this (2 to the number of poolings)."""

    tile_overlap: int = 32
    """Pixels that neighbouring tiles share unless told otherwise. A network that looks at most a quarter of this far
    gives in tiles exactly what it gives in one pass."""

    options: dict[str, Any] | None
    """What ``build_arch`` built it from, defaults included; weight files carry it."""

    denoise_settings: dict[str, Any]
    """Keywords of ``denoise`` that its weights were trained for, from the weight file."""

    def __init__(self) -> None:
        super().__init__()
        self.options = None
        self.denoise_settings = {}

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape back, not clipped.

        The only way from a noisy picture to a clean one. A network that has settings declares them as keywords
        with types and defaults, ``denoise(self, noisy, tiled=untiled, *, k: int = 3)``; they are checked like
        constructor arguments. One that draws random numbers also declares ``generator: torch.Generator | None =
        None``, which users cannot give: it is seeded by the picture's name (see ``seeded``).

        Args:
            tiled: how the network is laid over the picture. What needs the whole picture (C-BSN's statistics)
                is computed outside of it.
        """
        return tiled(self, noisy)

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
        return "generator" in inspect.signature(cls.denoise).parameters

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
    def _reserved(cls) -> tuple[str, ...]:
        """Parameters of ``denoise`` that are not for the user to give."""
        parameters = inspect.signature(cls.denoise).parameters.values()
        return ("generator", *(each.name for each in parameters if each.kind != inspect.Parameter.KEYWORD_ONLY))


class BlindSpotNetwork(Network, ABC):
    """A network with an adjustable blind spot (hole) ``k``: no output pixel sees the k x k square around it.

    ``net(noisy, k=3)`` and, for several holes, ``net.forward_teachers(noisy, ks=(0, 1, 3))``. Distillation and
    BSN training take any of them.
    """

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

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled, *, k: int = 3) -> Tensor:
        """As ``Network.denoise``, with hole ``k``."""
        return tiled(lambda tile: self(tile, k=k), noisy)

    def denoise_family(self, noisy: Tensor, ks: Sequence[int], tiled: Tiled = untiled, **how: Any) -> Tensor:
        """As ``denoise``, with every hole of ``ks``: (K, B, 3, H, W).

        One pass of ``forward_teachers``; or, in a network that has a ``denoise`` of its own, one ``denoise`` for
        each hole, all drawing the same random numbers.

        Args:
            how: the other keywords of ``denoise``.
        """
        if type(self).denoise is BlindSpotNetwork.denoise:
            return tiled(lambda tile: self.forward_teachers(tile, ks), noisy)
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
    def check_denoise(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        checked = super().check_denoise(settings)
        if "k" in checked:
            cls.check_hole(checked["k"])
        return checked
