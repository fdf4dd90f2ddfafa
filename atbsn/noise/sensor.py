"""Sensors drawn at random, for pictures of any number of channels: shot noise and read noise, without a camera."""

import torch
from torch import Tensor

from atbsn.noise.blur import gaussian_blur, with_level_of
from atbsn.noise.camera import RandomCamera, photons
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.draw import chance, log_uniform, normal, uniform
from atbsn.noise.prior import CameraPrior
from atbsn.utils.errors import UserError


class RandomSensor:
    """``noisy, clean = sensor(pictures)``: each picture of a batch is taken by a sensor of its own, in its own light.

    ``pictures`` are (B, C, H, W), float, linear, in [0, 255] from black to white. Both results have the same shape. The
    noisy ones are neither rounded nor clipped, since files of 16 bits have finer steps and their black is above 0. All
    channels of a picture, such as the bands of an instrument, have one kind of sensor. With x in [0, 1]::

        noisy = a Poisson(x / a) + sqrt(b) n,   n standard normal

    which has variance a x + b (Foi et al., IEEE TIP 2008). There is no mosaic, no tone curve and no JPEG. These fields
    of ``prior`` are used: ``exposure``, ``softened``, ``softness``, ``shot_noise``, ``read_slope``, ``read_offset``,
    ``read_spread``, ``noiseless``, and, for noise that is correlated between pixels, ``processed`` and
    ``luma_smoothing``. Random numbers come from PyTorch's generator of the device where the pictures are. Everything is
    computed in float32, also under autocast.
    """

    def __init__(self, prior: CameraPrior) -> None:
        self.prior = prior

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        prior = self.prior
        with torch.autocast(pictures.device.type, enabled=False):
            softness = uniform(pictures, *prior.softness) * chance(pictures, prior.softened)
            light = self._blurred(pictures.float() / 255, softness) * log_uniform(pictures, *prior.exposure)
            light = light.clamp(0, 1)
            shot = log_uniform(light, *prior.shot_noise)
            read = torch.exp(prior.read_slope * shot.log() + prior.read_offset + prior.read_spread * normal(light))
            noise = photons(light, shot, read.sqrt())
            smoothing = uniform(light, *prior.luma_smoothing) * chance(light, prior.processed)
            smooth = self._blurred(noise, smoothing)
            noise = with_level_of(smooth, noise) * chance(light, 1 - prior.noiseless)
            return (light + noise) * 255, light * 255

    @staticmethod
    def _blurred(x: Tensor, std: Tensor) -> Tensor:
        return gaussian_blur(x, std.flatten(1).expand(-1, x.shape[1]))


def camera_for(prior: CameraPrior, channels: int, cameras: CameraTable | None = None) -> RandomCamera | RandomSensor:
    """Make the camera or the sensor that ``prior.kind`` asks for. ``auto`` is a camera for three channels.

    Args:
        cameras: a table that cameras are drawn from.

    Raises:
        UserError: ``kind`` asks for a camera with other than three channels, or there is a table of cameras for a
            sensor.
    """
    is_camera = prior.kind == "camera" or (prior.kind == "auto" and channels == 3)
    if is_camera and channels != 3:
        raise UserError(
            f"model.camera.kind: camera makes photographs of 3 channels, the network is for {channels}; use sensor, or "
            "set network.channels: 3"
        )
    if cameras is not None and not is_camera:
        raise UserError("model.cameras: a table of cameras for photographs; leave it out for a sensor's noise alone")
    return RandomCamera(prior, cameras) if is_camera else RandomSensor(prior)
