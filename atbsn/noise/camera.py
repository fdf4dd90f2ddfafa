"""Cameras drawn at random: what they do to a clean picture, from the sensor's noise to the JPEG.

The pipeline is that of Brooks et al. ("Unprocessing images for learned raw denoising", CVPR 2019), but only the noise
goes through mosaic and demosaicing, so that the clean picture keeps its sharpness, and what cameras do to their noise
afterwards (smoothing of luma and colour, compression) is drawn too.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.noise.jpeg import jpeg, mix_channels, to_rgb, to_ycbcr

_CROSS = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
_SQUARE = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
"""Bilinear interpolation of the pixels a mosaic has of green, and of red or blue."""
_ALONG = torch.tensor([[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]])
_MALVAR = (
    torch.stack(
        (
            torch.tensor([[0, 0, -1.0, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]),
            torch.tensor(
                [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]
            ),
            _ALONG,
            _ALONG.T,
        )
    )[:, None]
    / 8
)
"""Malvar's filters: green at red or blue; red at blue and blue at red; a colour at green, along; across."""
SHOT_NOISE, SOFTNESS, DEMOSAICING = (7e-5, 3e-2), (0.4, 1.6), (0.45, 0.45, 0.0, 0.1)
PROCESSED, COMPRESSED, SOFTENED = 0.65, 0.5, 0.75
"""What a ``RandomCamera`` draws from unless told otherwise."""
_HERMITE = (
    (0.0, 0.5333333333),
    (1.3556261800, 0.2220759220),
    (-1.3556261800, 0.2220759220),
    (2.8569700138, 0.0112574113),
    (-2.8569700138, 0.0112574113),
)
"""Nodes and weights of Gauss-Hermite quadrature for the mean over a Gaussian of standard deviation 1."""
_RADIUS = 4
"""Of the Gaussian kernels, pixels."""


class RandomCamera:
    """``noisy, clean = camera(pictures)``: every picture of a batch taken by another camera, in another light.

    ``pictures`` (B, 3, H, W), RGB, float in [0, 255], H and W multiples of 16 -> two of the same shape and range; the
    noisy ones are whole numbers. For each picture are drawn

    - the softness of the lens, exposure, light and tone curve, which change the clean picture too;
    - white balance and colour matrix, and a raw noise of variance a x + b, x the raw value in [0, 1] (Foi et al., IEEE
      TIP 2008), on a Bayer mosaic that is demosaiced bilinearly or along edges, or on three sensors;
    - whether luma and colour of the noise are smoothed, the colour at half resolution, and how much of it stays;
    - whether it is saved as a JPEG, of which quality, with or without chroma subsampling.

    All is drawn from PyTorch's generator of the device where the pictures are.

    Args:
        shot_noise: range of a, drawn log-uniformly.
        processed: part of the cameras that smooth their noise.
        compressed: part of the pictures that are saved as JPEG.
        softened: part of the pictures that are blurred before the noise. A reduced picture is sharper than lens and
            demosaicing leave one at full size; a network that only knows such takes soft noise for texture.
        softness: range of the standard deviation of that blur, pixels.
        demosaicing: shares of cameras that demosaic bilinearly, along edges, with Malvar's filters, and that need not.
        recoloured: part of the pictures whose colours are exchanged, made stronger or weaker, and that lose contrast,
            down to flat ones: a few pictures do not show all colours.
        noiseless: part of the pictures that get no noise, so that a clean picture comes back as it is.
        patterned: part of the pictures that get a fine regular pattern over a part of them (``regular_pattern``):
            few show weaves, meshes, printed dots or distant windows, which look like noise to who never saw one.
        grey: part of the pictures that come out in black and white, noise and all: their luma, or their green alone.
        target: what counts as clean: the mean of what this camera shows (so no network has to guess how far black and
            the tone curve have moved a colour, and flat colours stay where they are), or the scene without noise.
    """

    size_multiple = 16
    """Of the height and width of the pictures: a chroma block of a JPEG."""

    def __init__(
        self,
        shot_noise: Sequence[float] = SHOT_NOISE,
        processed: float = PROCESSED,
        compressed: float = COMPRESSED,
        softened: float = SOFTENED,
        softness: Sequence[float] = SOFTNESS,
        demosaicing: Sequence[float] = DEMOSAICING,
        target: Literal["mean", "scene"] = "mean",
        recoloured: float = 0.0,
        noiseless: float = 0.0,
        grey: float = 0.0,
        patterned: float = 0.0,
    ) -> None:
        self.target, self.recoloured, self.noiseless, self.grey = target, recoloured, noiseless, grey
        self.patterned = patterned
        self.shot_noise, self.processed, self.compressed = tuple(shot_noise), processed, compressed
        self.softened, self.softness = softened, softness
        self.demosaicing = [sum(demosaicing[: place + 1]) / sum(demosaicing) for place in range(3)]

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        if self.recoloured:
            pictures = self._in_other_colours(pictures)
        if self.patterned:
            pictures = torch.where(_chance(pictures, self.patterned), regular_pattern(pictures), pictures)
        linear = self._light(pictures)
        tone = _draw_tone(pictures)
        noise = self._raw_noise(linear)
        if self.noiseless:
            noise = noise * _chance(pictures, 1 - self.noiseless)
        clean = tone.mean(linear, noise) if self.target == "mean" else tone(linear)
        difference = to_ycbcr(tone(linear + noise) - clean)
        noisy = (clean + to_rgb(self._smoothed(difference))).clamp(0, 1) * 255
        if self.grey:
            noisy, clean = _in_grey(noisy, clean, self.grey)
        quality = 75 + 25 * _uniform(pictures, 0, 1).flatten().sqrt()
        compressed = jpeg(noisy, quality, _chance(pictures, 0.5).flatten())
        noisy = torch.where(_chance(pictures, self.compressed), compressed, noisy)
        return (noisy + 0.5).floor().clamp(0, 255), clean * 255

    def _in_other_colours(self, pictures: Tensor) -> Tensor:
        """Channels in another order, saturation times up to 3, contrast times 0 to 1."""
        order = torch.rand(len(pictures), 3, device=pictures.device).argsort(dim=1)[..., None, None]
        mixed = pictures.gather(1, order.expand_as(pictures))
        mixed = torch.lerp(mixed.mean(dim=(2, 3), keepdim=True), mixed, _uniform(pictures, 0, 1))
        mixed = torch.lerp(mixed.mean(dim=1, keepdim=True), mixed, _uniform(pictures, 0.3, 3)).clamp(0, 255)
        return torch.where(_chance(pictures, self.recoloured), mixed, pictures)

    def _light(self, pictures: Tensor) -> Tensor:
        """What falls on the sensor, in linear sRGB, [0, 1]."""
        softness = _uniform(pictures, *self.softness) * _chance(pictures, self.softened)
        srgb = gaussian_blur(pictures / 255, softness.flatten(1).expand(-1, 3))
        linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp(min=0) + 0.055) / 1.055) ** 2.4)
        light = [_log_uniform(pictures, 0.8, 1.25), torch.ones_like(pictures[:, :1, :1, :1])]
        light.append(_log_uniform(pictures, 0.8, 1.25))
        return (linear * _log_uniform(pictures, 0.25, 1.5) * torch.cat(light, dim=1)).clamp(0, 1)

    def _raw_noise(self, linear: Tensor) -> Tensor:
        """The noise of the sensor, demosaiced, balanced and in linear sRGB."""
        saturation = _uniform(linear, 0, 0.55).flatten(1)[..., None]
        identity = torch.eye(3, device=linear.device)
        matrix = identity * (1 + saturation) - saturation / 2 * (1 - identity)
        one = torch.ones_like(linear[:, :1, :1, :1])
        balance = torch.cat((_log_uniform(linear, 1.2, 2.6), one, _log_uniform(linear, 1.2, 2.6)), dim=1)
        camera = mix_channels(linear, torch.linalg.inv(matrix)).clamp(0, 1) / balance
        bayer = bayer_pattern(linear)
        raw = (camera * bayer).sum(dim=1, keepdim=True)
        shot = _log_uniform(linear, *self.shot_noise)
        read = shot.square() * _log_uniform(linear, 0.02, 8)
        noise = torch.randn_like(raw) * (shot * raw + read).sqrt()
        banding = torch.randn_like(raw[..., :1]) * read.sqrt() * 0.15
        noise = noise + banding * _chance(linear, 0.2)
        three_sensors = torch.randn_like(camera) * (shot * camera + read).sqrt() * 0.8
        kind, (first, second, third) = _uniform(linear, 0, 1), self.demosaicing
        demosaiced = torch.where(kind < first, demosaic_bilinear(noise, bayer), demosaic_edges(noise, bayer))
        if third > second:
            demosaiced = torch.where(kind < second, demosaiced, demosaic_malvar(noise, bayer))
        return mix_channels(torch.where(kind < third, demosaiced, three_sensors) * balance, matrix)

    def _smoothed(self, difference: Tensor) -> Tensor:
        """The noise, in luma and colour differences, after the camera's own smoothing."""
        active = _chance(difference, self.processed)
        luma_std, colour_std = _uniform(difference, 0, 1.2) * active, _uniform(difference, 0, 2.4) * active
        luma, colour = difference[:, :1], difference[:, 1:]
        smooth = gaussian_blur(luma, luma_std.flatten(1))
        half = gaussian_blur(F.avg_pool2d(colour, 2), colour_std.flatten(1).expand(-1, 2))
        coarse = F.interpolate(half, scale_factor=2.0, mode="bilinear")
        luma = smooth + _uniform(difference, 0, 1).square() / 2 * (luma - smooth)
        kept = _uniform(difference, 0, 1).square() / 2
        colour = torch.where(colour_std > 0.15, coarse + kept * (colour - coarse), colour)
        # A camera that smooths more had more to smooth: what is left is not always less.
        luma_gain = 1 + active * (_uniform(difference, 0.7, 1.2) - 1)
        colour_gain = 1 + active * (_uniform(difference, 0.4, 1.1) - 1)
        return torch.cat((luma * (1 + 0.8 * luma_std) * luma_gain, colour * (1 + 1.2 * colour_std) * colour_gain), 1)


def regular_pattern(pictures: Tensor) -> Tensor:
    """Every picture (B, 3, H, W) with stripes, dots or a mesh over what lies on one side of a line.

    The pattern is sin(u) or sin(u) sin(v), u and v waves of 2.5 to 14 pixels that bend a little, put through a sigmoid
    between soft and sharp. It lies between two colours of [0, 255], often near to each other or grey.
    """
    height, width = pictures.shape[-2:]
    y = torch.arange(height, device=pictures.device, dtype=pictures.dtype)[:, None]
    x = torch.arange(width, device=pictures.device, dtype=pictures.dtype)

    def along(angle: Tensor) -> Tensor:
        return x * angle.cos() + y * angle.sin()

    angle = _uniform(pictures, 0, math.pi)
    across = angle + math.pi / 2 + _uniform(pictures, -0.5, 0.5) * _chance(pictures, 0.5)
    period = _log_uniform(pictures, 2.5, 14)
    bend = _uniform(pictures, 0, 3) * torch.sin(along(_uniform(pictures, 0, math.pi)) * _uniform(pictures, 0, 0.04))
    turns = 2 * math.pi / period
    first = torch.sin(turns * (along(angle) + bend) + _uniform(pictures, 0, 2 * math.pi))
    ratio = torch.where(_chance(pictures, 0.5), torch.ones_like(period), _log_uniform(pictures, 0.6, 1.6))
    second = torch.sin(turns * ratio * (along(across) + bend) + _uniform(pictures, 0, 2 * math.pi))
    wave = first * torch.where(_chance(pictures, 0.7), second, torch.ones_like(second))
    share = torch.sigmoid(_log_uniform(pictures, 2, 20) * (wave - _uniform(pictures, -0.4, 0.4)))
    colours = torch.rand(2, len(pictures), 3, 1, 1, device=pictures.device) * 255
    colours = torch.lerp(colours.mean(dim=2, keepdim=True), colours, _uniform(pictures, 0, 1))
    ground = colours[0]
    pattern = torch.lerp(ground, torch.lerp(ground, colours[1], _uniform(pictures, 0.1, 1)), share)
    middle = (width * _uniform(pictures, 0, 1), height * _uniform(pictures, 0, 1))
    side = _uniform(pictures, 0, 2 * math.pi)
    covered = (x - middle[0]) * side.cos() + (y - middle[1]) * side.sin() > 0
    return torch.where(covered, pattern, pictures)


def _in_grey(noisy: Tensor, clean: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Both in black and white, for a ``share`` of the pictures."""
    luma, green = noisy.new_tensor([0.299, 0.587, 0.114]), noisy.new_tensor([0.0, 1.0, 0.0])
    weights = torch.where(_chance(noisy, 0.5), luma.view(3, 1, 1), green.view(3, 1, 1))
    chosen = _chance(noisy, share)
    noisy, clean = (torch.where(chosen, (x * weights).sum(dim=1, keepdim=True).expand_as(x), x) for x in (noisy, clean))
    return noisy, clean


def gaussian_blur(x: Tensor, std: Tensor) -> Tensor:
    """Blur every channel of every picture of ``x`` (B, C, H, W) by its own ``std`` (B, C), pixels; about 0: not."""
    places = torch.arange(-_RADIUS, _RADIUS + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-places.square() / (2 * std.clamp(min=0.05).square()[..., None]))
    kernel = (kernel / kernel.sum(dim=-1, keepdim=True)).reshape(-1, 1, 1, 2 * _RADIUS + 1)
    planes = F.pad(x.reshape(1, -1, *x.shape[-2:]), (_RADIUS,) * 4, mode="reflect")
    planes = F.conv2d(planes, kernel, groups=len(kernel))
    return F.conv2d(planes, kernel.transpose(2, 3), groups=len(kernel)).reshape(x.shape)


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
        """The mean of ``self(linear + n)`` over Gaussian n of the local standard deviation of ``noise``."""
        std = F.avg_pool2d(noise.square(), 9, stride=1, padding=4, count_include_pad=False).sqrt()
        total = torch.zeros_like(linear)
        for node, weight in _HERMITE:
            total += weight * self(linear + node * std)
        return total


def _draw_tone(x: Tensor) -> _Tone:
    return _Tone(_uniform(x, 0.85, 1.2), _uniform(x, 0, 0.6) * _chance(x, 0.6))


def bayer_pattern(x: Tensor) -> Tensor:
    """(B, 3, H, W): 1 where a pixel of the mosaic has this colour; the pattern is RGGB or its mirror image."""
    bayer = torch.zeros_like(x)
    bayer[:, 0, 0::2, 0::2] = bayer[:, 2, 1::2, 1::2] = 1
    bayer[:, 1, 0::2, 1::2] = bayer[:, 1, 1::2, 0::2] = 1
    return torch.where(_chance(x, 0.5), bayer, bayer.flip(-1))


def demosaic_bilinear(raw: Tensor, bayer: Tensor) -> Tensor:
    kernel = torch.stack((_SQUARE, _CROSS, _SQUARE))[:, None].to(raw)
    return F.conv2d(F.pad(raw * bayer, (1,) * 4, mode="reflect"), kernel, groups=3)


def demosaic_edges(raw: Tensor, bayer: Tensor) -> Tensor:
    """Green with the Laplacian of the pixel's own colour, red and blue by constant difference to it."""
    red, green, blue = bayer.split(1, dim=1)
    around = F.pad(raw, (2,) * 4, mode="reflect")
    own = (
        around[..., :-4, 2:-2] + around[..., 4:, 2:-2] + around[..., 2:-2, :-4] + around[..., 2:-2, 4:]
    ) / 4  # fmt: skip
    interpolated = _interpolate(raw * green, _CROSS) + (raw - own) / 2
    full = torch.where(green > 0, raw, interpolated)
    others = (full + _interpolate((raw - full) * colour, _SQUARE) for colour in (red, blue))
    first, last = others
    return torch.cat((first, full, last), dim=1)


def demosaic_malvar(raw: Tensor, bayer: Tensor) -> Tensor:
    """Gradient-corrected linear interpolation (Malvar, He and Cutler, ICASSP 2004), as MATLAB's ``demosaic`` is."""
    at_green, at_red, along, across = F.conv2d(F.pad(raw, (2,) * 4, mode="reflect"), _MALVAR.to(raw)).split(1, dim=1)
    red, green, blue = bayer.split(1, dim=1)
    # Green pixels with red neighbours to the left and right lie in red rows, the others in blue rows.
    red_rows = (green * (F.pad(red, (1, 1, 0, 0))[..., :-2] + F.pad(red, (1, 1, 0, 0))[..., 2:])).clamp(max=1)
    blue_rows = green - red_rows
    return torch.cat(
        (
            red * raw + blue * at_red + red_rows * along + blue_rows * across,
            green * raw + (1 - green) * at_green,
            blue * raw + red * at_red + blue_rows * along + red_rows * across,
        ),
        dim=1,
    )


def _interpolate(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(F.pad(x, (1,) * 4, mode="reflect"), kernel[None, None].to(x))


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    """One number a picture: (B, 1, 1, 1)."""
    return torch.rand(len(x), 1, 1, 1, device=x.device) * (high - low) + low


def _log_uniform(x: Tensor, low: float, high: float) -> Tensor:
    return torch.exp(_uniform(x, math.log(low), math.log(high)))


def _chance(x: Tensor, probability: float) -> Tensor:
    return _uniform(x, 0, 1) < probability
