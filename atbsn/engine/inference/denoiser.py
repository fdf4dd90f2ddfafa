"""The one way from a noisy picture to a clean one: for test.py, valid.py, compare.py, atbsn.denoise and in training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.engine.inference.finish import denoises_twice, finish, is_local, leaves_pictures_alone, split_settings
from atbsn.engine.inference.seed import picture_seed
from atbsn.engine.inference.tiling import Tiler, self_ensemble
from atbsn.engine.precision import autocast, resolve_precision
from atbsn.options.schema import Test
from atbsn.utils.errors import UserError
from atbsn.utils.types import Hole, Precision

TILES_ON_GPU = 2**17
"""Pixels that a GPU computes at once unless told otherwise: less than 1 GB for any network, float32 or not."""
PICTURE_ON_GPU = 2**24
"""Pixels up to which a picture is cut into tiles and put together on the GPU; larger ones stay in the CPU's memory."""


@dataclass(frozen=True)
class Denoiser:
    """``denoiser(noisy)``: a network as it is used on pictures.

    Attributes:
        net: the network, in evaluation mode, on the device of ``tiler``.
        settings: keywords of its own ``denoise`` and of ``finish``.
        tiler: how it is laid over a picture, and where it computes.
        precision: type of the forward pass.
        self_ensemble: average over the eight orientations.

    Raises:
        UserError: a setting that the network does not have or take, or a precision that the device lacks.
    """

    net: Network
    settings: Mapping[str, Any]
    tiler: Tiler
    precision: Precision = "fp32"
    self_ensemble: bool = False

    def __post_init__(self) -> None:
        split_settings(type(self.net), self.settings)
        autocast(self.precision, self.device)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.tiler.device or next(self.net.parameters()).device

    @property
    def leaves_pictures_alone(self) -> bool:
        """Whether every picture comes back as it is."""
        return leaves_pictures_alone(self.settings)

    @property
    def is_local(self) -> bool:
        """Whether a part of a picture comes out the same alone: no setting or ``denoise`` of its own sees the whole."""
        return self.net.is_local() and is_local(self.settings)

    def of(self, net: Network) -> "Denoiser":
        """The same with other weights, such as their average."""
        return replace(self, net=net)

    def __call__(self, noisy: Tensor) -> Tensor:
        """Denoise a picture. What a network draws depends on the picture alone (``picture_seed``).

        Args:
            noisy: (B, 3, H, W), RGB, [0, 255], any size, on the CPU.

        Returns:
            (B, 3, H, W), not clipped, on any device.
        """
        own, finishing = split_settings(type(self.net), self.settings)
        function = self.net.denoise
        if isinstance(self.net, BlindSpotNetwork) and own.get("k") == "mean":
            del own["k"]
            function = self.net.denoise_mean
        return self._run(partial(function, **own), noisy, finishing)

    def family(self, ks: Sequence[Hole]) -> Callable[[Tensor], Tensor]:
        """As the denoiser, but (K, B, 3, H, W): with every blind spot of ``ks``, in one pass where the network can.

        ``mean`` among them is the mean over the network's published family.

        Raises:
            UserError: the network has no blind spot, or does not take one of these.
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
        function = partial(_denoise_family, self.net, ks, own)
        return lambda noisy: self._run(function, noisy, finishing).expand(len(ks), -1, -1, -1, -1)

    def _run(self, function: Callable[..., Tensor], noisy: Tensor, finishing: dict[str, Any]) -> Tensor:
        seed = picture_seed(noisy) if self.net.draws() else None
        if noisy.shape[-2] * noisy.shape[-1] <= PICTURE_ON_GPU:
            noisy = noisy.to(self.device)
        if seed is not None:
            function = partial(function, generator=torch.Generator(noisy.device).manual_seed(seed))
        denoise = partial(function, tiled=self.tiler)
        if self.self_ensemble:
            denoise = partial(self_ensemble, denoise)
        with torch.inference_mode(), autocast(self.precision, self.device):
            return finish(denoise, noisy, **finishing)


def build_denoiser(
    net: Network, device: torch.device, options: Test, trained_for: Mapping[str, Any], patch_size: int | None = None
) -> Denoiser:
    """The denoiser that an option file asks for; ``net`` has to be on ``device``.

    Args:
        options: ``test``, or for validation what ``val`` makes of it.
        trained_for: settings under those of ``options``: of the method, or of the weight file.
        patch_size: training patch, the tile of ``tile: auto``.

    Raises:
        UserError: as ``Denoiser``; it names ``test.denoise``.
    """
    overlap = net.tile_overlap if options.overlap == "auto" else options.overlap
    tile: int | None = max(patch_size or 256, 4 * overlap)
    if options.tile != "auto":
        tile = None if options.tile == "none" else options.tile
    at_once = max(1, TILES_ON_GPU // tile**2) if tile and device.type == "cuda" else 1
    tiler = Tiler(tile, overlap, at_once if options.tile_batch == "auto" else options.tile_batch, device)
    settings = {**trained_for, **options.denoise, **({} if options.k is None else {"k": options.k})}
    try:
        return Denoiser(net, settings, tiler, resolve_precision(options.precision, device), options.self_ensemble)
    except UserError as error:
        raise UserError(f"test: {error}") from None


def holes_of(net: BlindSpotNetwork, ks: Sequence[Hole]) -> list[int]:
    """The holes that ``ks`` need, each once where ``mean`` is among them: those of the family too."""
    if "mean" not in ks:
        return [k for k in ks if k != "mean"]
    return list(dict.fromkeys([*(k for k in ks if k != "mean"), *net.family]))


def _denoise_family(
    net: BlindSpotNetwork, ks: Sequence[Hole], own: dict[str, Any], noisy: Tensor, **given: Any
) -> Tensor:
    holes = holes_of(net, ks)
    outputs = net.denoise_family(noisy, holes, **own, **given)
    if "mean" not in ks:
        return outputs
    mean = outputs[[holes.index(k) for k in net.family]].mean(dim=0)
    return torch.stack([mean if k == "mean" else outputs[holes.index(k)] for k in ks])
