"""Cameras drawn at random: what they do to a clean picture, from the sensor's noise to the JPEG.

The steps follow one another as in real raw developers (dcraw, LibRaw, SIDD's own renderer, and Brooks et al.,
"Unprocessing images for learned raw denoising", CVPR 2019): white balance on the mosaic, clipping, demosaicing, colour
matrix, tone curve. Only the noise is sampled on the mosaic and demosaiced, so that the clean picture stays sharp. What
cameras do to their noise after that is drawn too: smoothing of luma and colour, enlargement, compression.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.noise.blur import gaussian_blur, level_of, with_level_of
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.demosaic import bayer_pattern, demosaic_bilinear, demosaic_edges, demosaic_malvar
from atbsn.noise.draw import chance, log_uniform, uniform
from atbsn.noise.jpeg import jpeg, mix_channels, to_rgb, to_ycbcr
from atbsn.noise.patterns import regular_pattern
from atbsn.noise.prior import CameraPrior
from atbsn.ops.constant import Constant
from atbsn.ops.luma import BT601
from atbsn.ops.srgb import linear_to_srgb, srgb_to_linear

_STRATA = 4
"""Number of strata of each half of a Gaussian in ``_Tone.mean``, which draws one node from each. Chosen by hand: every
node costs two passes through the tone curve."""
_THREE_SENSORS = 3
"""Index of "no demosaicing" in ``CameraPrior.demosaicing``."""
_MAX_GAIN_RATIO = 1.5
"""Cameras of a table are used at sensor gains up to this factor above and below the table's. Chosen by hand."""
_BLOTCH = 16
"""Pixels between the random values from which colour blotches are interpolated. Chosen by hand."""
_MIN_COLOUR_SMOOTHING = 0.15
"""Pixels of half the resolution: standard deviation below which smoothing colour changes less than going to half the
resolution and back would. Chosen by hand."""


class RandomCamera:
    """``noisy, clean = camera(pictures)``: each picture of a batch is taken by a camera of its own, in its own light.

    ``pictures`` are (B, 3, H, W), RGB, float in [0, 255], with H and W multiples of 16. Both results have the same
    shape and range; the noisy pictures are whole numbers. The following is drawn from ``prior`` for each picture:

    - softness of the lens, exposure, light and tone curve, which change the clean picture too;
    - raw noise, Poisson and Gaussian, of variance a x + b at the raw value x in [0, 1], on one of the four Bayer
      mosaics; white balance and clipping on the mosaic; demosaicing (bilinear, edge-directed, Malvar's, or none, as
      with three sensors); a colour matrix;
    - defects: banding, hot pixels, blotches of colour;
    - how luma and colour of the noise are smoothed, and how much noise the smoothing leaves;
    - whether the picture is enlarged, and whether it is saved as a JPEG, with which quality and chroma subsampling.

    Random numbers come from PyTorch's generator of the device where the pictures are. Everything is computed in
    float32, also under autocast: in bfloat16 compressed pictures would be wrong by 1.4 grey values.

    Args:
        prior: the distributions; None for those of ``CameraPrior()``.
        cameras: a table of cameras, such as ``cameras_like`` finds for given pictures. If it is given, sensor,
            development and compression come from one of its rows, with a gain that is up to 1.5 times higher or lower.
            The rest is still drawn from ``prior``.
    """

    size_multiple = 16
    """Height and width of the pictures are multiples of this many pixels, the side of a chroma block of a JPEG."""

    def __init__(self, prior: CameraPrior | None = None, cameras: CameraTable | None = None) -> None:
        self.prior = CameraPrior() if prior is None else prior
        self._table = None if cameras is None else {name: Constant(value) for name, value in vars(cameras).items()}
        self._rows = 0 if cameras is None else len(cameras)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        return self.taken(pictures, self._drawn(pictures))

    @torch.no_grad()
    def taken(self, pictures: Tensor, cameras: CameraTable) -> tuple[Tensor, Tensor]:
        """``(noisy, clean)`` of ``pictures`` (B, 3, H, W), [0, 255]: picture number b is taken by camera number b.

        Args:
            cameras: B cameras. Without a table, they have to be drawn from ``prior``.
        """
        with torch.autocast(pictures.device.type, enabled=False):
            return self._taken(pictures.float(), cameras)

    def _drawn(self, pictures: Tensor) -> CameraTable:
        if self._table is None:
            return CameraTable.drawn(self.prior, pictures)
        row = torch.randint(self._rows, (len(pictures),), device=pictures.device)
        values = {name: value.like(pictures)[row] for name, value in self._table.items()}
        gain = log_uniform(pictures, 1 / _MAX_GAIN_RATIO, _MAX_GAIN_RATIO)
        values["shot"], values["read"] = values["shot"] * gain, values["read"] * gain.square()
        return CameraTable(**values)

    def _taken(self, pictures: Tensor, cameras: CameraTable) -> tuple[Tensor, Tensor]:
        prior = self.prior
        linear = self._scene(pictures)
        tone = _Tone(cameras.exponent, cameras.contrast)
        raw = self._raw_noise(linear, cameras)
        shown = linear + raw.bias
        clean = tone.mean(shown, raw.noise) if prior.target == "mean" else tone(linear)
        difference = to_ycbcr(tone(shown + raw.noise + raw.hot) - clean)
        noisy = (clean + to_rgb(self._smoothed(difference, cameras))).clamp(0, 1) * 255
        clean = clean * 255
        if prior.grey:
            noisy, clean = self._in_grey(noisy, clean)
        if prior.enlarged:
            noisy, clean = self._enlarged(noisy, clean)
        if self._may("compressed"):
            compressed = jpeg(noisy, cameras.quality.flatten().clamp(min=1), cameras.subsampled.flatten() > 0)
            noisy = torch.where(cameras.quality > 0, compressed, noisy)
        return (noisy + 0.5).floor().clamp(0, 255), clean

    def _may(self, share: str) -> bool:
        """Whether any camera has a share of this name above 0; otherwise its step is not computed."""
        return self._table is not None or getattr(self.prior, share) > 0

    def _scene(self, pictures: Tensor) -> Tensor:
        """The light that falls on the sensor, in linear sRGB, [0, 1]."""
        prior = self.prior
        if prior.recoloured:
            pictures = self._in_other_colours(pictures)
        if prior.patterned:
            pictures = torch.where(chance(pictures, prior.patterned), regular_pattern(pictures), pictures)
        return self._light(pictures)

    def _in_other_colours(self, pictures: Tensor) -> Tensor:
        """Recolour some pictures: channels in another order, contrast times 0 to 1, saturation times 0.3 to 3."""
        order = torch.rand(len(pictures), 3, device=pictures.device).argsort(dim=1)[..., None, None]
        mixed = pictures.gather(1, order.expand_as(pictures))
        mixed = torch.lerp(mixed.mean(dim=(2, 3), keepdim=True), mixed, uniform(pictures, 0, 1))
        mixed = torch.lerp(mixed.mean(dim=1, keepdim=True), mixed, uniform(pictures, 0.3, 3)).clamp(0, 255)
        return torch.where(chance(pictures, self.prior.recoloured), mixed, pictures)

    def _light(self, pictures: Tensor) -> Tensor:
        """Soften and expose ``pictures`` in light of another colour: linear sRGB, [0, 1]."""
        prior = self.prior
        softness = uniform(pictures, *prior.softness) * chance(pictures, prior.softened)
        srgb = gaussian_blur(pictures / 255, softness.flatten(1).expand(-1, 3))
        linear = srgb_to_linear(srgb)
        light = self._of_red_and_blue(pictures, prior.light)
        return (linear * log_uniform(pictures, *prior.exposure) * light).clamp(0, 1)

    def _of_red_and_blue(self, x: Tensor, bounds: tuple[float, float]) -> Tensor:
        """(B, 3, 1, 1) factors on red, green and blue. That of green is 1; the others are log-uniform in ``bounds``."""
        one = torch.ones(len(x), 1, 1, 1, device=x.device)
        return torch.cat((log_uniform(x, *bounds), one, log_uniform(x, *bounds)), dim=1)

    def _raw_noise(self, linear: Tensor, cameras: CameraTable) -> "_RawNoise":
        """The noise of the sensor after white balance, clipping and demosaicing, in linear sRGB."""
        matrix = cameras.colour_matrix()
        camera = mix_channels(linear, inverse(matrix)).clamp(0, 1)
        bayer = bayer_pattern(torch.randint(4, (len(linear),), device=linear.device), *linear.shape[-2:])
        value, gain = ((x * bayer).sum(dim=1, keepdim=True) for x in (camera, cameras.balance))
        present = chance(linear, 1 - self.prior.noiseless)
        noise = photons(value, cameras.shot * gain, cameras.read.sqrt() * gain) * present
        std = gain * (cameras.shot * value / gain + cameras.read).sqrt() * present
        if self._may("banding"):
            noise = noise + self._banding(value, cameras) * gain * (0.1 * cameras.shot + cameras.read).sqrt() * present
        clipped = cameras.clipped > 0
        noise = (value + noise).clamp(max=1)
        noise = torch.where(clipped, noise.clamp(min=0), noise) - value
        bias = _mean_cut_off(value, std) * clipped - _mean_cut_off(1 - value, std)
        hot = (torch.rand_like(value) - value).clamp(min=0) * (torch.rand_like(value) < cameras.hot_density) * present
        sites = torch.cat((noise - bias, bias, hot))
        whole = self._demosaiced(sites, bayer.repeat(3, 1, 1, 1), cameras.demosaicing.repeat(3, 1, 1, 1))
        noise, bias, hot = whole.chunk(3)
        if self._table is not None or self.prior.demosaicing[_THREE_SENSORS]:
            full = photons(camera, cameras.shot * cameras.balance, cameras.read.sqrt() * cameras.balance) * present
            noise = torch.where(cameras.demosaicing == _THREE_SENSORS, full, noise)
        return _RawNoise(*(mix_channels(x, matrix) for x in (noise, bias, hot)))

    def _demosaiced(self, sites: Tensor, bayer: Tensor, kind: Tensor) -> Tensor:
        """Demosaic each of ``sites`` in its own way, ``kind``; 0 where the camera has no mosaic: (B, 3, H, W)."""
        result = torch.zeros_like(bayer)
        for place, demosaic in enumerate((demosaic_bilinear, demosaic_edges, demosaic_malvar)):
            if self._table is not None or self.prior.demosaicing[place]:
                result = torch.where(kind == place, demosaic(sites, bayer), result)
        return result

    def _banding(self, x: Tensor, cameras: CameraTable) -> Tensor:
        """The offsets of rows, (B, 1, H, 1), or of columns, broadcast, divided by the noise at a raw value of 0.1."""
        rows, columns = torch.randn_like(x[..., :1]), torch.randn_like(x[..., :1, :])
        return cameras.banding * torch.where(cameras.banding_down > 0, columns, rows)

    def _smoothed(self, difference: Tensor, cameras: CameraTable) -> Tensor:
        """Smooth the noise ``difference`` (B, 3, H, W), in YCbCr, as each camera does."""
        luma, colour = difference[:, :1], difference[:, 1:]
        across, along = (cameras.luma_smoothing * factor for factor in (cameras.across, cameras.along))
        smooth = gaussian_blur(luma, across.flatten(1), along.flatten(1))
        smooth = torch.lerp(smooth, luma, cameras.luma_unsmoothed)
        half = gaussian_blur(F.avg_pool2d(colour, 2), cameras.colour_smoothing.flatten(1).expand(-1, 2))
        coarse = F.interpolate(half, scale_factor=2.0, mode="bilinear")
        coarse = torch.lerp(coarse, colour, cameras.colour_unsmoothed)
        luma = with_level_of(torch.where(cameras.luma_smoothing > 0, smooth, luma), luma) * cameras.luma_gain
        coarse = torch.where(cameras.colour_smoothing > _MIN_COLOUR_SMOOTHING, coarse, colour)
        colour = with_level_of(coarse, colour) * cameras.colour_gain
        if self._may("blotches"):
            nodes = [side // _BLOTCH for side in colour.shape[-2:]]
            field = torch.randn(len(colour), 2, *nodes, device=colour.device)
            field = F.interpolate(field, size=colour.shape[-2:], mode="bilinear")
            colour = colour + field * cameras.blotch_level * level_of(difference)
        return torch.cat((luma, colour), dim=1)

    def _in_grey(self, noisy: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Turn some pictures to black and white: to their luma, or to their green channel."""
        luma = chance(noisy, 0.5)
        weights = torch.cat(
            [
                _where(luma, torch.full_like(luma, share, dtype=noisy.dtype), green)
                for share, green in zip(BT601, (0, 1, 0), strict=True)
            ],
            dim=1,
        )
        chosen = chance(noisy, self.prior.grey)
        noisy, clean = (
            torch.where(chosen, (x * weights).sum(dim=1, keepdim=True).expand_as(x), x) for x in (noisy, clean)
        )
        return noisy, clean

    def _enlarged(self, noisy: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Enlarge the middle of some pictures, noise included, to the whole size, by bicubic interpolation."""
        factor = log_uniform(noisy, *self.prior.enlargement)
        identity = torch.eye(2, 3, device=noisy.device)
        grid = F.affine_grid(identity / factor.flatten(1)[..., None], list(noisy.shape), align_corners=False)
        both = F.grid_sample(
            torch.cat((noisy, clean), dim=1), grid, mode="bicubic", padding_mode="reflection",
            align_corners=False,
        )  # fmt: skip
        chosen = chance(noisy, self.prior.enlarged)
        large = both.clamp(0, 255).split(3, dim=1)
        return torch.where(chosen, large[0], noisy), torch.where(chosen, large[1], clean)


def photons(value: Tensor, gain: Tensor, read: Tensor) -> Tensor:
    """Draw Poisson noise of ``value / gain`` photons, and Gaussian noise of standard deviation ``read``.

    All three have one scale, such as raw values in [0, 1], and shapes that broadcast; so has the result, of mean 0.
    With few photons the noise is skewed (the skewness is 1 / sqrt of their number). Its median is below its mean, so a
    dark picture with strong noise looks darker than its scene.
    """
    expected = value / gain
    return (torch.poisson(expected) - expected) * gain + torch.randn_like(value) * read


@dataclass(frozen=True)
class _RawNoise:
    """What a sensor adds, each (B, 3, H, W) in linear sRGB.

    Attributes:
        noise: the noise less its mean.
        bias: the mean of the noise, which is not 0 where clipping cuts it off.
        hot: what hot pixels add.
    """

    noise: Tensor
    bias: Tensor
    hot: Tensor


class _Tone:
    """One tone curve for each picture: sRGB's gamma, then an exponent, then a mixture with an S-curve."""

    def __init__(self, exponent: Tensor, contrast: Tensor) -> None:
        self.exponent, self.contrast = exponent, contrast

    def __call__(self, linear: Tensor) -> Tensor:
        linear = linear.clamp(0, 1)
        srgb = linear_to_srgb(linear).clamp(0, 1) ** self.exponent
        return torch.lerp(srgb, srgb.square() * (3 - 2 * srgb), self.contrast)

    def mean(self, linear: Tensor, noise: Tensor) -> Tensor:
        """The mean of ``self(linear + n)`` over Gaussian n with the local standard deviation of ``noise``.

        It is estimated without bias, by stratified sampling: each picture draws one node n in every stratum, and -n
        with it. The fixed nodes of a quadrature would be wrong by one or two grey values where the noise is clipped at
        black, always with the same sign. The skewness of few photons is left out; in the dark regions of the strongest
        noise, where the mean is about 3 grey values, it makes a difference of 1.
        """
        std = F.avg_pool2d(noise.square(), 9, stride=1, padding=4, count_include_pad=False).sqrt()
        quantiles = torch.arange(_STRATA, device=noise.device) + torch.rand(len(noise), 1, device=noise.device)
        nodes = torch.special.ndtri(0.5 + quantiles / (2 * _STRATA) * (1 - 1e-4))  # the node of quantile 1 is infinite
        nodes = nodes / nodes.square().mean(dim=1, keepdim=True).sqrt()
        total = torch.zeros_like(linear)
        for node in nodes.T[..., None, None, None]:
            total += self(linear + node * std) + self(linear - node * std)
        return total / (2 * _STRATA)


def _mean_cut_off(value: Tensor, std: Tensor) -> Tensor:
    """What clipping at 0 adds to the mean: E[max(value + n, 0)] - value for Gaussian n of standard deviation ``std``.

    It is std phi(t) - value Phi(-t) with t = value / std.
    """
    t = value / std.clamp(min=1e-9)
    density = torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)
    below = torch.erfc(t / math.sqrt(2)) / 2
    return std * density - value * below


def _where(condition: Tensor, x: Tensor, other: float) -> Tensor:
    """``torch.where(condition, x, other)``, but nothing is copied from the host, which a CUDA graph does not allow."""
    return torch.where(condition, x, torch.full_like(x, other))


def inverse(matrix: Tensor) -> Tensor:
    """Invert (B, 3, 3) matrices by cross products. ``torch.linalg.inv`` would wait for the device, to check them."""
    first, second, third = matrix.unbind(dim=1)
    pairs = ((second, third), (third, first), (first, second))
    adjugate = torch.stack([torch.linalg.cross(*pair) for pair in pairs], dim=2)
    return adjugate / (first * adjugate[..., 0]).sum(dim=1)[:, None, None]
