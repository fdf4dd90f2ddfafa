"""Raw data of cameras drawn at random: what their sensors record, before development."""

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.noise.camera import RandomCamera, inverse, photons
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.demosaic import bayer_pattern
from atbsn.noise.draw import chance, uniform
from atbsn.noise.jpeg import mix_channels

_BITS = (10, 15)
"""Bits of the analogue-to-digital converter, first and last plus one: 10 in phones, 12 to 14 in most cameras."""


class RandomMosaic(RandomCamera):
    """``noisy, clean = camera(pictures)``: the raw data of each picture of a batch, from a camera of its own.

    ``pictures`` are (B, 3, H, W), RGB, float in [0, 255], with H and W multiples of 16. Both results are
    (B, 4, H / 2, W / 2), packed as RGGB, linear, with black at 0 and white at 255. The noisy ones go below black unless
    their camera clips there. They do not go above white, where the sensor is full.

    It is ``RandomCamera`` up to the mosaic: softness of the lens, exposure, light, colour matrix, noise of variance
    a x + b, banding, hot pixels, clipping. Raw data have no white balance yet, so red and blue are darker by its gains.
    Values are rounded to the steps of a converter of 10 to 14 bits. The development is left out.
    """

    def _taken(self, pictures: Tensor, cameras: CameraTable) -> tuple[Tensor, Tensor]:
        linear = self._scene(pictures)
        camera = mix_channels(linear, inverse(cameras.colour_matrix())).clamp(0, 1) / cameras.balance
        rggb = torch.zeros(len(linear), dtype=torch.long, device=linear.device)
        value = (camera * bayer_pattern(rggb, *linear.shape[-2:])).sum(dim=1, keepdim=True)
        noise = photons(value, cameras.shot, cameras.read.sqrt())
        if self._may("banding"):
            noise = noise + self._banding(value, cameras) * (0.1 * cameras.shot + cameras.read).sqrt()
        noise = noise + (torch.rand_like(value) - value).clamp(min=0) * (torch.rand_like(value) < cameras.hot_density)
        noisy = value + noise * chance(linear, 1 - self.prior.noiseless)
        steps = 2 ** uniform(linear, *_BITS).floor() - 1
        noisy = ((noisy * steps).round() / steps).clamp(max=1)
        noisy = torch.where(cameras.clipped > 0, noisy.clamp(min=0), noisy)
        return F.pixel_unshuffle(noisy * 255, 2), F.pixel_unshuffle(value * 255, 2)
