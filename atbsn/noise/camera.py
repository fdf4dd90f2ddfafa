"""Cameras drawn at random: what they do to a clean picture, from the sensor's noise to the JPEG.

The order is that of real raw developers (dcraw, LibRaw, SIDD's own renderer, and Brooks et al., "Unprocessing images
for learned raw denoising", CVPR 2019): white balance on the mosaic, clipping, demosaicing, colour matrix, tone curve.
Only the noise goes through mosaic and demosaicing, so that the clean picture keeps its sharpness, and what cameras do
to their noise afterwards (smoothing of luma and colour, enlargement, compression) is drawn too.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.noise.demosaic import bayer_pattern, demosaic_bilinear, demosaic_edges, demosaic_malvar
from atbsn.noise.draw import chance, log_uniform, normal, one_of, uniform
from atbsn.noise.jpeg import jpeg, mix_channels, to_rgb, to_ycbcr
from atbsn.noise.patterns import regular_pattern
from atbsn.noise.prior import CameraPrior

_STRATA = 4
"""Strata of each half of a Gaussian from which one node is drawn for the mean of what a tone curve makes of noise."""
_RADIUS = 4
"""Pixels that the Gaussian kernels reach to each side."""
_THREE_SENSORS = 3
"""The place of "no demosaicing" in ``CameraPrior.demosaicing``."""
_BLOTCH = 16
"""Pixels between the nodes of colour blotches."""
_LUMA = (0.299, 0.587, 0.114)
"""BT.601's weights of red, green and blue."""


class RandomCamera:
    """``noisy, clean = camera(pictures)``: every picture of a batch taken by another camera, in another light.

    ``pictures`` (B, 3, H, W), RGB, float in [0, 255], H and W multiples of 16 -> two of the same shape and range; the
    noisy ones are whole numbers. For each picture are drawn, from ``prior``,

    - the softness of the lens, exposure, light and tone curve, which change the clean picture too;
    - a raw noise of variance a x + b, x the raw value in [0, 1], on one of the four Bayer mosaics; white balance and
      clipping on the mosaic; bilinear, edge-directed or Malvar's demosaicing, or three sensors; a colour matrix;
    - defects: banding, hot pixels, blotches of colour;
    - whether luma and colour of the noise are smoothed, the colour at half resolution, and how much of it stays;
    - whether the picture is enlarged, and saved as a JPEG, of which quality, with or without chroma subsampling.

    Everything is drawn from PyTorch's generator of the device where the pictures are, and computed in float32, also
    under autocast: bfloat16 would round the compressed pictures by 1.4 grey values.
    """

    size_multiple = 16
    """Of the height and width of the pictures: a chroma block of a JPEG."""

    def __init__(self, prior: CameraPrior | None = None) -> None:
        self.prior = CameraPrior() if prior is None else prior

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(pictures.device.type, enabled=False):
            return self._taken(pictures.float())

    def _taken(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        prior = self.prior
        if prior.recoloured:
            pictures = self._in_other_colours(pictures)
        if prior.patterned:
            pictures = torch.where(chance(pictures, prior.patterned), regular_pattern(pictures), pictures)
        linear = self._light(pictures)
        tone = self._tone(linear)
        raw = self._raw_noise(linear)
        shown = linear + raw.bias
        clean = tone.mean(shown, raw.noise) if prior.target == "mean" else tone(linear)
        difference = to_ycbcr(tone(shown + raw.noise + raw.hot) - clean)
        noisy = (clean + to_rgb(self._smoothed(difference))).clamp(0, 1) * 255
        clean = clean * 255
        if prior.grey:
            noisy, clean = self._in_grey(noisy, clean)
        if prior.enlarged:
            noisy, clean = self._enlarged(noisy, clean)
        if prior.compressed:
            low, high = prior.quality
            quality = low + (high - low) * uniform(noisy, 0, 1).flatten().sqrt()
            compressed = jpeg(noisy, quality, chance(noisy, 0.5).flatten())
            noisy = torch.where(chance(noisy, prior.compressed), compressed, noisy)
        return (noisy + 0.5).floor().clamp(0, 255), clean

    def _in_other_colours(self, pictures: Tensor) -> Tensor:
        """Channels in another order, saturation times up to 3, contrast times 0 to 1."""
        order = torch.rand(len(pictures), 3, device=pictures.device).argsort(dim=1)[..., None, None]
        mixed = pictures.gather(1, order.expand_as(pictures))
        mixed = torch.lerp(mixed.mean(dim=(2, 3), keepdim=True), mixed, uniform(pictures, 0, 1))
        mixed = torch.lerp(mixed.mean(dim=1, keepdim=True), mixed, uniform(pictures, 0.3, 3)).clamp(0, 255)
        return torch.where(chance(pictures, self.prior.recoloured), mixed, pictures)

    def _light(self, pictures: Tensor) -> Tensor:
        """What falls on the sensor, in linear sRGB, [0, 1]."""
        prior = self.prior
        softness = uniform(pictures, *prior.softness) * chance(pictures, prior.softened)
        srgb = gaussian_blur(pictures / 255, softness.flatten(1).expand(-1, 3))
        linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp(min=0) + 0.055) / 1.055) ** 2.4)
        light = self._of_red_and_blue(pictures, prior.light)
        return (linear * log_uniform(pictures, *prior.exposure) * light).clamp(0, 1)

    def _of_red_and_blue(self, x: Tensor, bounds: tuple[float, float]) -> Tensor:
        """(B, 3, 1, 1): a factor of red, 1, and a factor of blue."""
        one = torch.ones(len(x), 1, 1, 1, device=x.device)
        return torch.cat((log_uniform(x, *bounds), one, log_uniform(x, *bounds)), dim=1)

    def _tone(self, x: Tensor) -> "_Tone":
        prior = self.prior
        toned = chance(x, prior.toned)
        return _Tone(_where(toned, uniform(x, *prior.tone_exponent), 1), uniform(x, *prior.tone_contrast) * toned)

    def _colour_matrix(self, x: Tensor) -> Tensor:
        """(B, 3, 3), camera RGB to linear sRGB; rows sum to 1, so that white stays white."""
        # Beyond two deviations a matrix may be nearly singular, and no camera of the table lies there.
        drawn = torch.randn(len(x), 6, device=x.device).clamp(-2, 2).unbind(dim=1)
        off = [
            mean + std * z for mean, std, z in zip(self.prior.matrix_mean, self.prior.matrix_std, drawn, strict=True)
        ]
        zero = torch.zeros_like(off[0])
        rows = (zero, *off[:3], zero, *off[3:], zero)
        matrix = torch.stack(rows, dim=1).unflatten(1, (3, 3))
        return matrix + torch.diag_embed(1 - matrix.sum(dim=2))

    def _raw_noise(self, linear: Tensor) -> "_RawNoise":
        """What the sensor adds, balanced, demosaiced and in linear sRGB."""
        prior = self.prior
        matrix = self._colour_matrix(linear)
        balance = self._of_red_and_blue(linear, prior.balance)
        camera = mix_channels(linear, _inverse(matrix)).clamp(0, 1)
        bayer = bayer_pattern(torch.randint(4, (len(linear),), device=linear.device), *linear.shape[-2:])
        value, gain = ((x * bayer).sum(dim=1, keepdim=True) for x in (camera, balance))
        shot = log_uniform(linear, *prior.shot_noise)
        read = torch.exp(prior.read_slope * shot.log() + prior.read_offset + prior.read_spread * normal(linear))
        present = chance(linear, 1 - prior.noiseless)
        std = gain * (shot * value / gain + read).sqrt() * present
        noise = torch.randn_like(value) * std
        if prior.banding:
            noise = noise + self._banding(value) * gain * (0.1 * shot + read).sqrt() * present
        clipped = chance(linear, prior.clipped)
        noise = (value + noise).clamp(max=1)
        noise = torch.where(clipped, noise.clamp(min=0), noise) - value
        bias = _mean_cut_off(value, std) * clipped - _mean_cut_off(1 - value, std)
        hot = self._hot_pixels(value) * present
        kind = one_of(linear, prior.demosaicing)
        sites = torch.cat((noise - bias, bias, hot))
        whole = self._demosaiced(sites, bayer.repeat(3, 1, 1, 1), kind.repeat(3, 1, 1, 1))
        noise, bias, hot = whole.chunk(3)
        full = torch.randn_like(camera) * balance * (shot * camera / balance + read).sqrt() * present
        noise = torch.where(kind == _THREE_SENSORS, full, noise)
        return _RawNoise(*(mix_channels(x, matrix) for x in (noise, bias, hot)))

    def _demosaiced(self, sites: Tensor, bayer: Tensor, kind: Tensor) -> Tensor:
        """(B, 3, H, W), each picture by its own kind; nothing where there is no mosaic."""
        result = torch.zeros_like(bayer)
        for place, demosaic in enumerate((demosaic_bilinear, demosaic_edges, demosaic_malvar)):
            if self.prior.demosaicing[place]:
                result = torch.where(kind == place, demosaic(sites, bayer), result)
        return result

    def _banding(self, x: Tensor) -> Tensor:
        """(B, 1, H, W): offsets of rows or of columns, in units of the noise."""
        level = uniform(x, *self.prior.banding_level) * chance(x, self.prior.banding)
        rows, columns = torch.randn_like(x[..., :1]), torch.randn_like(x[..., :1, :])
        return level * torch.where(chance(x, 0.5), rows, columns)

    def _hot_pixels(self, value: Tensor) -> Tensor:
        """(B, 1, H, W): what a defective pixel shows above its value."""
        density = log_uniform(value, *self.prior.hot_density) * chance(value, self.prior.hot_pixels)
        return (torch.rand_like(value) - value).clamp(min=0) * (torch.rand_like(value) < density)

    def _smoothed(self, difference: Tensor) -> Tensor:
        """The noise, in luma and colour differences, after the camera's own smoothing."""
        prior = self.prior
        active = chance(difference, prior.processed)
        luma_std = uniform(difference, *prior.luma_smoothing) * active
        colour_std = uniform(difference, *prior.colour_smoothing) * active
        less = 1 - uniform(difference, 0, prior.anisotropy)  # of the smoothing, along rows or along columns
        down = chance(difference, 0.5)
        luma, colour = difference[:, :1], difference[:, 1:]
        across, along = (luma_std * _where(axis, less, 1) for axis in (down, ~down))
        smooth = gaussian_blur(luma, across.flatten(1), along.flatten(1))
        kept = uniform(difference, 0, 1).square() / 2
        smooth = torch.lerp(smooth, luma, kept)
        half = gaussian_blur(F.avg_pool2d(colour, 2), colour_std.flatten(1).expand(-1, 2))
        coarse = F.interpolate(half, scale_factor=2.0, mode="bilinear")
        coarse = torch.lerp(coarse, colour, uniform(difference, 0, 1).square() / 2)
        # A camera that smooths more had more to smooth, so the level before smoothing is what is left of it here.
        luma_gain = _where(active, uniform(difference, 0.7, 1.2), 1)
        colour_gain = _where(active, uniform(difference, 0.4, 1.1), 1)
        luma = _with_level_of(torch.where(active, smooth, luma), luma) * luma_gain
        colour = _with_level_of(torch.where(active & (colour_std > 0.15), coarse, colour), colour) * colour_gain
        if prior.luma_alone:
            colour = colour * _where(chance(colour, prior.luma_alone), uniform(colour, 0, 0.2), 1)
        if prior.blotches:
            nodes = [side // _BLOTCH for side in colour.shape[-2:]]
            field = torch.randn(len(colour), 2, *nodes, device=colour.device)
            field = F.interpolate(field, size=colour.shape[-2:], mode="bilinear")
            share = uniform(colour, *prior.blotch_level) * chance(colour, prior.blotches)
            colour = colour + field * share * _level(difference)
        return torch.cat((luma, colour), dim=1)

    def _in_grey(self, noisy: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Some in black and white: their luma, or their green alone."""
        luma = chance(noisy, 0.5)
        weights = torch.cat(
            [
                _where(luma, torch.full_like(luma, share, dtype=noisy.dtype), green)
                for share, green in zip(_LUMA, (0, 1, 0), strict=True)
            ],
            dim=1,
        )
        chosen = chance(noisy, self.prior.grey)
        noisy, clean = (
            torch.where(chosen, (x * weights).sum(dim=1, keepdim=True).expand_as(x), x) for x in (noisy, clean)
        )
        return noisy, clean

    def _enlarged(self, noisy: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Some cut to their middle, which is enlarged to the whole by bicubic interpolation, noise and all."""
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


@dataclass(frozen=True)
class _RawNoise:
    """In linear sRGB, (B, 3, H, W): noise of zero mean, the mean of what clipping adds, and defective pixels."""

    noise: Tensor
    bias: Tensor
    hot: Tensor


class _Tone:
    """A tone curve a picture: sRGB's gamma, another exponent on it, and an S-curve mixed in."""

    def __init__(self, exponent: Tensor, contrast: Tensor) -> None:
        self.exponent, self.contrast = exponent, contrast

    def __call__(self, linear: Tensor) -> Tensor:
        linear = linear.clamp(0, 1)
        srgb = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-6) ** (1 / 2.4) - 0.055)
        srgb = srgb.clamp(0, 1) ** self.exponent
        return torch.lerp(srgb, srgb.square() * (3 - 2 * srgb), self.contrast)

    def mean(self, linear: Tensor, noise: Tensor) -> Tensor:
        """The mean of ``self(linear + n)`` over Gaussian n of the local standard deviation of ``noise``.

        An estimate without bias: pairs of opposite nodes, of which each picture draws one in every stratum. Fixed nodes
        of a quadrature err by one or two grey values where black cuts the noise off, and always to the same side.
        """
        std = F.avg_pool2d(noise.square(), 9, stride=1, padding=4, count_include_pad=False).sqrt()
        quantiles = torch.arange(_STRATA, device=noise.device) + torch.rand(len(noise), 1, device=noise.device)
        nodes = torch.special.ndtri(0.5 + quantiles / (2 * _STRATA) * (1 - 1e-4))
        nodes = nodes / nodes.square().mean(dim=1, keepdim=True).sqrt()
        total = torch.zeros_like(linear)
        for node in nodes.T[..., None, None, None]:
            total += self(linear + node * std) + self(linear - node * std)
        return total / (2 * _STRATA)


def gaussian_blur(x: Tensor, std: Tensor, std_down: Tensor | None = None) -> Tensor:
    """Blur every channel of every picture of ``x`` (B, C, H, W) by its own ``std`` (B, C), pixels; about 0: not.

    Args:
        std_down: of the blur along columns, where it is another than along rows.
    """
    planes = F.pad(x.reshape(1, -1, *x.shape[-2:]), (_RADIUS,) * 4, mode="reflect")
    kernel = _gaussian(std).to(x.dtype)
    planes = F.conv2d(planes, kernel[:, :, None], groups=len(kernel))
    kernel = kernel if std_down is None else _gaussian(std_down).to(x.dtype)
    return F.conv2d(planes, kernel[..., None], groups=len(kernel)).reshape(x.shape)


def _gaussian(std: Tensor) -> Tensor:
    """(number, 1, 2 _RADIUS + 1) kernels that sum to 1."""
    places = torch.arange(-_RADIUS, _RADIUS + 1, device=std.device, dtype=std.dtype)
    kernel = torch.exp(-places.square() / (2 * std.reshape(-1, 1).clamp(min=0.05).square()))
    return (kernel / kernel.sum(dim=-1, keepdim=True))[:, None]


def _mean_cut_off(value: Tensor, std: Tensor) -> Tensor:
    """E[max(value + n, 0)] - value for Gaussian n of ``std``: std phi(t) - value Phi(-t), t = value / std."""
    t = value / std.clamp(min=1e-9)
    density = torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)
    below = torch.erfc(t / math.sqrt(2)) / 2
    return std * density - value * below


def _where(condition: Tensor, x: Tensor, other: float) -> Tensor:
    """``torch.where``, which would copy a number from the host."""
    return torch.where(condition, x, torch.full_like(x, other))


def _inverse(matrix: Tensor) -> Tensor:
    """The inverses of (B, 3, 3) matrices, by cross products: no check that waits for the device."""
    first, second, third = matrix.unbind(dim=1)
    pairs = ((second, third), (third, first), (first, second))
    adjugate = torch.stack([torch.linalg.cross(*pair) for pair in pairs], dim=2)
    return adjugate / (first * adjugate[..., 0]).sum(dim=1)[:, None, None]


def _level(x: Tensor) -> Tensor:
    """(B, 1, 1, 1) root mean square."""
    return x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def _with_level_of(x: Tensor, other: Tensor) -> Tensor:
    return x * (_level(other) / _level(x).clamp(min=1e-6))
