"""A camera's noise: its level against intensity, its correlation, its tails."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from atbsn.noise.clipping import WHITE, interpolate, unclipped_levels
from atbsn.noise.sampling import REACH, WHOLE, fade, swell, transfer, white_to_field
from atbsn.utils.errors import UserError

T = TypeVar("T")

KNOTS = 17
"""Intensities at which the level is kept: 0, 255 / 16, ..., 255."""
_STEPS = 4
"""Entries of the look-up tables per grey value; between them the level changes by less than 1 %."""
_CACHED = 8
"""Sizes and tables that are kept ready."""
MOST_CHANNELS = 16
"""A picture of more is taken for one whose axes are in another order."""


def _fields(channels: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the buffers of a model."""
    lags = 2 * REACH + 1
    return {"levels": (channels, KNOTS), "correlation": (channels, channels, lags, lags), "kurtosis": (), "spread": ()}


class NoiseModel(nn.Module):
    """Zero-mean noise n of a picture with the local means m: n_i(p) = level_i(m_i(p)) u(p) z_i(p).

    z is a stationary Gaussian field of unit variance, E[z_i(p) z_j(p + d)] = correlation_ij(d) for lags d up to
    ``REACH`` pixels and 0 beyond. u is a log-normal scale that changes over 16 pixels, E[u^2] = 1: as measured on
    SIDD and PolyU, camera noise is nearly Gaussian within a small patch, and its heavy tails come from patches that
    are noisier or smoother than their intensity says. The levels are those of the noise
    as it is *seen*, after black and white have cut it off, against the mean of what is seen: a flat patch of a picture
    that has mean m has the standard deviation level(m). What it was before the cut is computed from that (``clipped``).

    Buffers, so the model travels in a training state and moves with ``to``; here of RGB, 3 stands for the channels:
        levels: (3, KNOTS) standard deviations, grey values, at equally spaced intensities from 0 to 255.
        correlation: (3, 3, 9, 9); [i, j, REACH + dy, REACH + dx]; the same for d and -d.
        kurtosis: of z u, E[x^4] / E[x^2]^2, at least 3.
        spread: standard deviation, over the pictures it was estimated from, of log(level of the picture / level).
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
        """The model that ``to_dict`` wrote.

        Raises:
            UserError: a key is missing or unknown, a shape is wrong, or a number is not finite or out of range.
        """
        levels = values.get("levels")
        channels = len(levels) if isinstance(levels, list) and 0 < len(levels) <= MOST_CHANNELS else 3
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
        """Of the pictures it is for."""
        return len(self.levels)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for a weight file's metadata: about 13 kB as JSON."""
        return {name: torch.round(getattr(self, name), decimals=5).tolist() for name in _fields(self.channels)}

    def level(self, clean: Tensor, clipped: bool = True) -> Tensor:
        """Standard deviation of the noise at every value of ``clean`` (B, 3, H, W), [0, 255]; the same shape.

        Args:
            clipped: the level as it is seen at this local mean. False: what the noise was before black and white cut
                it off, at this value before the noise; it can be more than twice as much near 0 and 255.
        """
        table = self._table(clean.device, clipped)
        index = clean.detach().mul(_STEPS).round_().clamp_(0, 255 * _STEPS).to(torch.int32)
        index += torch.arange(self.channels, dtype=torch.int32, device=clean.device).view(-1, 1, 1) * table.shape[1]
        return table.view(-1).index_select(0, index.reshape(-1)).view(clean.shape).to(clean.dtype)

    @torch.no_grad()
    def sample(
        self,
        clean: Tensor,
        generator: torch.Generator | None = None,
        scale: float | Tensor = 1,
        clipped: bool = True,
    ) -> Tensor:
        """Draw the noise of pictures with local means ``clean`` (B, 3, H, W), [0, 255], on its device; the same shape.

        Nothing is cut off here. With ``clipped``, the noise has the covariance of what is seen, also in the dark:
        for adding to a picture that is noisy already (recorruption). Without, ``(clean + noise).clamp(0, 255)`` is
        what a camera would have shown: for noise on a clean picture. Far from 0 and 255 the two are the same.

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
        """Draw z u of level 1, float32 (batch, 3, height, width): the noise without its level.

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
        roots = self._cached(
            ("roots", height, width, device), lambda: transfer(self.correlation.to(device), height, width)
        )
        white = torch.randn(batch, self.channels, height, roots.shape[3], device=device, generator=generator)
        return white_to_field(white, roots, width)

    def _large(
        self, batch: int, height: int, width: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
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
        """(3, 255 _STEPS + 1) levels at finely spaced intensities."""

        def build() -> Tensor:
            points = torch.linspace(0, WHITE, int(WHITE) * _STEPS + 1, device=device).expand(self.channels, -1)
            seen = interpolate(self.levels.to(device, torch.float32), points)
            return (seen if clipped else unclipped_levels(seen)).contiguous()

        return self._cached(("table", clipped, device), build)

    def _cached(self, key: tuple[Any, ...], build: Callable[[], T]) -> T:
        """What ``build`` makes from the buffers, made again only when a buffer was written to."""
        versions = tuple((buffer._version, buffer.data_ptr()) for buffer in self.buffers())
        if self._made_from != versions or len(self._made) > _CACHED:
            self._made, self._made_from = {}, versions
        if key not in self._made:
            self._made[key] = build()
        return self._made[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}, "_made_from": ()}
