"""The one way from a noisy picture to a clean one, for all commands, ``atbsn.denoise`` and validation in training."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from atbsn.archs.base import BlindSpotNetwork, Network, Tiled, untiled
from atbsn.engine.inference.finish import denoises_twice, finish, is_local, leaves_pictures_alone, split_settings
from atbsn.engine.inference.memory import bytes_per_pixel
from atbsn.engine.inference.network_cache import cache_of
from atbsn.engine.inference.plan import ComputeOptions, DevicePlan
from atbsn.engine.inference.seed import picture_seed
from atbsn.engine.inference.tiling import Function, OnTiles, Tiler, self_ensemble
from atbsn.engine.precision import autocast, resolve_precision
from atbsn.options.schema import Test
from atbsn.utils.errors import UserError
from atbsn.utils.types import Hole, Precision

TILE = 512
"""Pixels: side of the tiles on a CPU. Chosen by hand: larger tiles overlap less, but need more memory."""
_PATCH = 256
"""Pixels: side of the training patches assumed for weight files that do not say it. Most option files use it."""


@dataclass(frozen=True)
class _Work:
    """How a network denoises a picture.

    Attributes:
        function: ``function(noisy, tiled=...)`` returns the clean picture.
        finishing: keywords of ``finish``.
        name: equal for equal functions of one network.
    """

    function: Callable[..., Tensor]
    finishing: Mapping[str, Any]
    name: Hashable


@dataclass(frozen=True)
class Denoiser:
    """``denoiser(noisy)``: a network with its settings, tiles, precision and device.

    Attributes:
        net: the network, in evaluation mode.
        settings: keywords of its own ``denoise`` and of ``finish``.
        device: where the network is and computes.
        asked: tiles and precision, as far as they are not left to the device.
        self_ensemble: average over the eight orientations.
        on_tiles: called after every batch of tiles. An exception that it raises ends the computation.

    Raises:
        UserError: the network lacks one of the settings or does not accept its value, a size is out of range, or the
            device lacks the precision.
    """

    net: Network
    settings: Mapping[str, Any]
    device: torch.device
    asked: ComputeOptions = field(default_factory=ComputeOptions)
    self_ensemble: bool = False
    on_tiles: OnTiles | None = None

    def __post_init__(self) -> None:
        split_settings(type(self.net), self.settings)
        autocast(self.precision, self.device)
        asked = self.asked
        tile = asked.usual_tile if asked.tile == "auto" else None if asked.tile == "none" else asked.tile
        Tiler(tile, asked.overlap, 1 if asked.batch_size == "auto" else asked.batch_size)

    @property
    def precision(self) -> Precision:
        """The type of numbers that it computes in."""
        return resolve_precision(self.asked.precision, self.device)

    @property
    def leaves_pictures_alone(self) -> bool:
        """Whether every picture is returned unchanged."""
        return leaves_pictures_alone(self.settings)

    @property
    def is_local(self) -> bool:
        """Whether a part of a picture gives the same result when it is denoised alone.

        It does unless a setting, or the network's own ``denoise``, needs the whole picture.
        """
        return self.net.is_local() and is_local(self.settings)

    def of(self, net: Network) -> "Denoiser":
        """The same denoiser with another network, such as one with averaged weights."""
        return replace(self, net=net)

    def __call__(self, noisy: Tensor, plan: DevicePlan | None = None) -> Tensor:
        """Denoise a picture. Random numbers that a network draws depend on the picture alone (``picture_seed``).

        Args:
            noisy: (B, 3, H, W), RGB, [0, 255], any size, on any device.
            plan: how it is computed; None: as the method ``plan`` decides for its size.

        Returns:
            (B, 3, H, W), not clipped, on any device.
        """
        return self._run(self._work, noisy, plan)

    def plan(self, height: int, width: int) -> DevicePlan:
        """Decide how a picture of this size is computed."""
        return self._plan(self._work, height, width)

    def family(self, ks: Sequence[Hole]) -> Callable[[Tensor], Tensor]:
        """A function that denoises with each of the blind spots ``ks``, in one pass if the network can.

        It maps (B, 3, H, W) to (K, B, 3, H, W). ``mean`` in ``ks`` is the mean over the network's published family.

        Raises:
            UserError: the network has no blind spot, or does not accept one of ``ks``.
        """
        if not isinstance(self.net, BlindSpotNetwork):
            raise UserError(f"k = {list(ks)}: {type(self.net).__name__} has no blind spot to choose; leave k out")
        holes = holes_of(self.net, ks)
        self.net.check_holes(holes)
        own, finishing = split_settings(type(self.net), {**self.settings, "k": holes[0]})
        del own["k"]
        if denoises_twice(finishing):  # each output with its own hole
            each = [replace(self, settings={**self.settings, "k": k}) for k in ks]
            return lambda noisy: torch.stack([denoiser(noisy) for denoiser in each])
        work = _Work(partial(_denoise_family, self.net, ks, own), finishing, _name(own, ks))
        return lambda noisy: self._run(work, noisy).expand(len(ks), -1, -1, -1, -1)

    @cached_property
    def _work(self) -> _Work:
        own, finishing = split_settings(type(self.net), self.settings)
        function, name = self.net.denoise, _name(own)
        if isinstance(self.net, BlindSpotNetwork) and own.get("k") == "mean":
            del own["k"]
            function = self.net.denoise_mean
        return _Work(partial(function, **own), finishing, name)

    def _plan(self, work: _Work, height: int, width: int) -> DevicePlan:
        def measure() -> float:
            with autocast(self.precision, self.device):
                return bytes_per_pixel(partial(work.function, tiled=untiled), self.device, self.net.channels)

        net, size = self.net, (height, width)
        kind = net.sees_whole_tile, net.tile_multiple, net._compiled_call_impl is not None
        return cache_of(net).plan(self.device, self.asked, size, work.name, measure, *kind)

    def _run(self, work: _Work, noisy: Tensor, plan: DevicePlan | None = None) -> Tensor:
        plan = plan or self._plan(work, *noisy.shape[-2:])
        cache = cache_of(self.net)
        tiler = plan.tiler(self.device, self.on_tiles, cache.on_shortage)
        tiled: Tiled = tiler
        if plan.capture and self.net.is_local():  # a local network calls ``tiled`` with one function only
            where = [parameter.data_ptr() for parameter in self.net.parameters()]
            name = work.name, plan.precision, self.net._compiled_call_impl is not None, *where

            def tiled(function: Function, x: Tensor) -> Tensor:
                return tiler(partial(cache.graphs, name, function), x)

        seed = picture_seed(noisy) if self.net.draws() else None
        if plan.resident:
            noisy = noisy.to(self.device)
        denoise = partial(work.function, tiled=tiled)
        if seed is not None:
            denoise = partial(denoise, generator=torch.Generator(self.device).manual_seed(seed))
        if noisy.shape[1] != self.net.channels:
            denoise = partial(each_channel, self.net, denoise)
        if self.self_ensemble:
            denoise = partial(self_ensemble, denoise)
        with torch.inference_mode(), autocast(plan.precision, self.device):
            return finish(denoise, noisy, **work.finishing)


def build_denoiser(
    net: Network,
    device: torch.device,
    options: Test,
    trained_for: Mapping[str, Any],
    patch_size: int | None = None,
    capture: bool = True,
) -> Denoiser:
    """Build the denoiser of an option file. ``net`` has to be on ``device``.

    Args:
        options: ``test``, or for validation ``test`` with the changes of ``val``.
        trained_for: settings of the method or the weight file; those of ``options`` replace them.
        patch_size: as in ``usual_tile``.
        capture: whether a GPU may keep memory from one picture to the next for a CUDA graph.

    Raises:
        UserError: as ``Denoiser``; the message names ``test``.
    """
    overlap = net.tile_overlap if options.overlap == "auto" else options.overlap
    usual = usual_tile(net, overlap, patch_size)
    asked = ComputeOptions(options.tile, overlap, options.tile_batch, options.precision, capture, usual_tile=usual)
    settings = {**trained_for, **options.denoise, **({} if options.k is None else {"k": options.k})}
    try:
        return Denoiser(net, settings, device, asked, options.self_ensemble)
    except UserError as error:
        raise UserError(f"test: {error}") from None


def check_channels(net: Network, channels: int) -> None:
    """Raise a ``UserError`` if ``net`` cannot denoise pictures of ``channels`` channels."""
    if net.channels not in (channels, 1):
        raise UserError(
            f"a picture of {channels} channels: this {type(net).__name__} is for {net.channels}; use one that was "
            f"trained with network.channels: {channels}, or with 1, which takes every channel alone"
        )


def each_channel(net: Network, denoise: Callable[[Tensor], Tensor], noisy: Tensor) -> Tensor:
    """Denoise each channel of a picture (B, C, H, W) by itself; if all are equal, only the first.

    Args:
        net: a network for one channel.
        denoise: maps (B, 1, H, W) to (..., B, 1, H, W).

    Returns:
        (..., B, C, H, W).

    Raises:
        UserError: ``net`` is not for one channel.
    """
    batch, channels, _, _ = noisy.shape
    check_channels(net, channels)
    if bool((noisy == noisy[:, :1]).all()):
        return denoise(noisy[:, :1]).repeat_interleave(channels, dim=-3)
    return denoise(noisy.flatten(0, 1).unsqueeze(1)).squeeze(-3).unflatten(-3, (batch, channels))


def usual_tile(net: Network, overlap: int, patch_size: int | None = None) -> int:
    """Side of the tiles, pixels, for ``auto`` where the device does not choose: the same for all commands.

    In some networks every pixel depends on the whole tile. They get tiles of the size of their training patches. Other
    networks give the same result in tiles of any size.

    Args:
        patch_size: side of the patches that ``net`` is being trained on; None: as its weight file says.
    """
    side = patch_size or net.trained_patch or _PATCH if net.sees_whole_tile else TILE
    return max(side, 4 * overlap)


def holes_of(net: BlindSpotNetwork, ks: Sequence[Hole]) -> list[int]:
    """The holes to compute for ``ks``. For ``mean``, those of the network's family are added; none is listed twice."""
    if "mean" not in ks:
        return [k for k in ks if k != "mean"]
    return list(dict.fromkeys([*(k for k in ks if k != "mean"), *net.family]))


def _name(own: Mapping[str, Any], ks: Sequence[Hole] = ()) -> Hashable:
    """A key that is equal for passes with equal keywords and blind spots."""
    return repr(sorted(own.items())), *ks


def _denoise_family(
    net: BlindSpotNetwork, ks: Sequence[Hole], own: dict[str, Any], noisy: Tensor, **given: Any
) -> Tensor:
    holes = holes_of(net, ks)
    outputs = net.denoise_family(noisy, holes, **own, **given)
    if "mean" not in ks:
        return outputs
    mean = outputs[[holes.index(k) for k in net.family]].mean(dim=0)
    return torch.stack([mean if k == "mean" else outputs[holes.index(k)] for k in ks])
