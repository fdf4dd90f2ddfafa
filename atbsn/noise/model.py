"""The noise model: the noise-level function of a camera, the correlation of its noise, and its kurtosis."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from atbsn.noise.blur import gaussian_blur
from atbsn.noise.clipping import interpolate, unclipped_levels
from atbsn.noise.sampling import REACH, WHOLE, fade, swell, transfer, white_to_field
from atbsn.ops.constant import WHITE
from atbsn.utils.errors import UserError

T = TypeVar("T")

KNOTS = 17
"""Number of intensities at which the noise-level function is stored: 0, 255 / 16, ..., 255. It is linear between."""
_STEPS = 4
"""Entries of the look-up tables per grey value. From one entry to the next the level changes by less than 1 %."""
_MAX_CACHED = 8
"""Most field sizes and look-up tables that are kept. Chosen by hand: a training uses one or two."""
MAX_CHANNELS = 16
"""Most channels of a picture. An array with more is taken for one whose axes are in another order."""
_INTENSITY_STD = 2.0
"""Pixels: standard deviation of the Gaussian window that ``local_mean`` takes the intensity from. Chosen by hand: wide
enough to average the noise, narrow enough to follow edges."""


def _fields(channels: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the buffers of a noise model, by name."""
    lags = 2 * REACH + 1
    return {"levels": (channels, KNOTS), "correlation": (channels, channels, lags, lags), "kurtosis": (), "spread": ()}


class NoiseModel(nn.Module):
    """Zero-mean noise n of a picture with the local means m: n_i(p) = level_i(m_i(p)) u(p) z_i(p).

    z is a stationary Gaussian field of unit variance, E[z_i(p) z_j(p + d)] = correlation_ij(d) for lags d up to
    ``REACH`` pixels and 0 beyond. u is a log-normal scale that changes over 16 pixels, E[u^2] = 1. It models heavy
    tails: on SIDD and PolyU, noise is nearly Gaussian within a small patch, but some patches are noisier or smoother
    than their intensity says.

    The noise-level function gives the standard deviation *after* clipping to [0, 255], against the mean after
    clipping: a flat patch with mean m has the standard deviation level(m). The standard deviation before clipping is
    computed from it (``clipped=False``).

    The model consists of buffers, so it travels in a training state and moves with ``to``. For RGB, C = 3:
        levels: (C, KNOTS) standard deviations, grey values, at equally spaced intensities from 0 to 255.
        correlation: (C, C, 9, 9), indexed [i, j, REACH + dy, REACH + dx]; equal for d and -d.
        kurtosis: E[x^4] / E[x^2]^2 of z u, at least 3, which is that of a Gaussian.
        spread: standard deviation of log(level of a picture / level) over the pictures it was estimated from.
    """

    levels: Tensor
    correlation: Tensor
    kurtosis: Tensor
    spread: Tensor

    def __init__(self, channels: int = 3) -> None:
        """White noise of level 0; fill it by ``estimate``, ``from_dict`` or ``load_state_dict``."""
        super().__init__()
        for name, shape in _fields(channels).items():
            self.register_buffer(name, torch.zeros(shape))
        self.correlation[:, :, REACH, REACH] = torch.eye(channels)
        self.kurtosis.fill_(3)
        self._made: dict[tuple[Any, ...], Any] = {}
        self._made_from: tuple[Any, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NoiseModel":
        """Make the model whose ``to_dict`` gave ``values``.

        Raises:
            UserError: a key is missing or unknown, a shape is wrong, or a number is not finite or out of range.
        """
        levels = values.get("levels")
        channels = len(levels) if isinstance(levels, list) and 0 < len(levels) <= MAX_CHANNELS else 3
        model, fields = cls(channels), _fields(channels)
        if set(values) != set(fields):
            raise UserError(f"noise model with {sorted(values)}: it has exactly {sorted(fields)}; estimate it again")
        for name, shape in fields.items():
            try:
                tensor = torch.tensor(values[name], dtype=torch.float32)
            except (TypeError, ValueError) as error:
                raise UserError(f"noise model: {name} is not an array of numbers; estimate it again") from error
            if tensor.shape != shape or not tensor.isfinite().all():
                raise UserError(
                    f"noise model: {name} of shape {tuple(tensor.shape)}: finite numbers of shape {shape} are needed"
                )
            getattr(model, name).copy_(tensor)
        if (model.levels < 0).any() or model.kurtosis < 3 or model.spread < 0:
            raise UserError("noise model: levels and spread must not be negative, nor the kurtosis below 3")
        return model

    @property
    def channels(self) -> int:
        """Number of channels of the pictures."""
        return len(self.levels)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for a weight file's metadata: about 13 kB as JSON."""
        return {name: torch.round(getattr(self, name), decimals=5).tolist() for name in _fields(self.channels)}

    def level(self, clean: Tensor, clipped: bool = True) -> Tensor:
        """Give the standard deviation of the noise at every value of ``clean`` (B, C, H, W), [0, 255]; the same shape.

        Args:
            clipped: True: the standard deviation after clipping, where ``clean`` are means after clipping. False: the
                standard deviation before clipping, where ``clean`` are noise-free values. Near 0 and 255 it can be more
                than twice as large.
        """
        table = self._table(clean.device, clipped)
        index = clean.detach().mul(_STEPS).round_().clamp_(0, 255 * _STEPS).to(torch.int32)
        index += torch.arange(self.channels, dtype=torch.int32, device=clean.device).view(-1, 1, 1) * table.shape[1]
        return table.view(-1).index_select(0, index.reshape(-1)).view(clean.shape).to(clean.dtype)

    @torch.no_grad()
    def mean_level(self, pictures: Iterable[Tensor]) -> float:
        """Root mean square of the level over the pixels of ``pictures``, each (C, H, W) in [0, 255], grey values."""
        device = self.levels.device
        squares = [self.level(picture[None].to(device)).square().mean() for picture in pictures]
        return float(torch.stack(squares).mean().sqrt())

    @torch.no_grad()
    def sample(
        self,
        clean: Tensor,
        generator: torch.Generator | None = None,
        scale: float | Tensor = 1,
        clipped: bool = True,
    ) -> Tensor:
        """Draw the noise of pictures with local means ``clean`` (B, C, H, W), [0, 255], on its device; the same shape.

        The noise is not clipped. With ``clipped``, it has the covariance that noise has after clipping, also in the
        dark: use it to add noise to a picture that is noisy already (recorruption). Without ``clipped``,
        ``(clean + noise).clamp(0, 255)`` is what a camera would have shown: use it to add noise to a clean picture.
        Far from 0 and 255 the two are equal.

        Args:
            generator: on the device of ``clean``; None: torch's own.
            scale: multiplies the level; a tensor has one value a picture, or any shape that broadcasts.
        """
        batch, _, height, width = clean.shape
        fields = self.fields(batch, height, width, clean.device, generator).to(clean.dtype)
        fields *= self.level(clean, clipped)
        if isinstance(scale, Tensor):
            return fields.mul_(scale.view(-1, 1, 1, 1) if scale.dim() == 1 else scale)
        return fields if scale == 1 else fields.mul_(scale)

    @torch.no_grad()
    def fields(
        self, batch: int, height: int, width: int, device: torch.device, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw z u, float32 (batch, C, height, width): noise with standard deviation 1.

        A field of up to 512 x 512 pixels is drawn at once and is periodic: its opposite borders are neighbours.
        """
        if max(height, width) <= WHOLE:
            result = self._torus(batch, max(height, 16), max(width, 16), device, generator)[..., :height, :width]
        else:
            result = self._large(batch, height, width, device, generator)
        deviation = self._swell_deviation()
        if deviation:
            scales = swell(batch, height, width, device, generator).mul_(deviation).sub_(deviation**2).exp_()
            result = result * scales
        return result

    def _torus(
        self, batch: int, height: int, width: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        """Draw z on a torus, whose opposite borders are neighbours: (batch, C, height, width)."""
        roots = self._cached(
            ("roots", height, width, device), lambda: transfer(self.correlation.to(device), height, width)
        )
        white = torch.randn(batch, self.channels, height, roots.shape[3], device=device, generator=generator)
        return white_to_field(white, roots, width)

    def _large(
        self, batch: int, height: int, width: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        """Cross-fade z from pieces of ``WHOLE`` x ``WHOLE`` pixels: (batch, C, height, width)."""
        result = torch.zeros(batch, self.channels, height, width, device=device)
        rows, columns = fade(height), fade(width)
        for top, down in zip(*rows, strict=True):
            for left, across in zip(*columns, strict=True):
                piece = self._torus(batch, WHOLE, WHOLE, device, generator)
                piece *= (down[:, None] * across).to(device)
                here = result[..., top : top + WHOLE, left : left + WHOLE]
                here += piece[..., : here.shape[2], : here.shape[3]]
        return result

    def _swell_deviation(self) -> float:
        """Standard deviation of log u: the kurtosis of z u is 3 exp(4 deviation^2)."""
        return self._cached(("deviation",), lambda: math.sqrt(max(0.0, math.log(float(self.kurtosis) / 3) / 4)))

    def _table(self, device: torch.device, clipped: bool) -> Tensor:
        """The levels at finely spaced intensities: (C, 255 _STEPS + 1)."""

        def build() -> Tensor:
            points = torch.linspace(0, WHITE, int(WHITE) * _STEPS + 1, device=device).expand(self.channels, -1)
            seen = interpolate(self.levels.to(device, torch.float32), points)
            return (seen if clipped else unclipped_levels(seen)).contiguous()

        return self._cached(("table", clipped, device), build)

    def _cached(self, key: tuple[Any, ...], build: Callable[[], T]) -> T:
        """Return what ``build`` computes from the buffers; compute it again only after a buffer was written to."""
        versions = tuple((buffer._version, buffer.data_ptr()) for buffer in self.buffers())
        if self._made_from != versions or len(self._made) >= _MAX_CACHED:
            self._made, self._made_from = {}, versions
        if key not in self._made:
            self._made[key] = build()
        return self._made[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}, "_made_from": ()}


def local_mean(noisy: Tensor) -> Tensor:
    """Estimate the intensity that the noise of each pixel depends on: a Gaussian mean of ``noisy`` (B, C, H, W)."""
    return gaussian_blur(noisy, noisy.new_full(noisy.shape[:2], _INTENSITY_STD))
