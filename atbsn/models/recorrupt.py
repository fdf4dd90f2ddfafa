"""Recorrupted-to-Recorrupted (Pang et al., CVPR 2021) with a noise model estimated from the noisy pictures alone."""

import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt, Le
from torch import Tensor

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.archs.weights import load
from atbsn.data.base import ImageSet
from atbsn.models.base import Model
from atbsn.noise import NoiseModel, estimate, from_residual
from atbsn.noise.camera import gaussian_blur
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError
from atbsn.utils.image import to_tensor
from atbsn.utils.types import PositiveInt

Alpha = Annotated[float, Gt(0), Le(16)]


@MODELS.register
class RecorruptModel(Model):
    """Two pictures with independent noise out of one, and one is to be found from the other.

    With y = x + n the noisy patch and n' drawn from the noise model, of the level of the pixels around::

        recorrupt    y1 = y + a n',  y2 = y - n' / a          mean w (N(y1) - y2)^2,  w = a^2 / (1 + a^2)
        renoise      x' = teacher(y),  y1 = x' + n'           log(1 + mean (N(y1) - x')^2) / 2

    In ``recorrupt`` the noise of y1 and of y2 is uncorrelated when n' has the covariance of n, so that squared error
    has its minimum at the mean of x given y1. No blind spot is asked for, so weak noise is no obstacle. a is drawn for
    every patch: the noise of y1 is sqrt(1 + a^2) times that of y, so one network learns weak noise and strong.

    In ``renoise`` the noise is the one that the teacher took off (y - teacher(y)), which is the better estimate where
    the noise is strong and hides what is flat. The network that comes out may be the next teacher.

    The noise model is estimated when a training begins, travels in its state and with the weights
    (``metadata["noise"]``).

    Args:
        net: an ordinary network.
        teacher: weight file of an ordinary network, for ``renoise`` alone.
        loss: ``recorrupt`` or ``renoise``; by default ``renoise`` if there is a teacher.
        alpha: range of a, drawn log-uniformly. In ``renoise``, the range of the factor on the level of n'.
        num_crops: crops of 256 x 256 pixels (or less) that the noise model is estimated from.

    Raises:
        UserError: the network has a blind spot, or ``renoise`` has no teacher, or ``recorrupt`` one.
    """

    def __init__(
        self,
        net: Network,
        teacher: str | None = None,
        loss: Literal["recorrupt", "renoise"] | None = None,
        alpha: tuple[Alpha, Alpha] = (0.5, 2.0),
        num_crops: PositiveInt = 256,
    ) -> None:
        super().__init__(net)
        self.loss = loss or ("recorrupt" if teacher is None else "renoise")
        self.check_network(type(net), {"teacher": teacher, "loss": loss, "alpha": alpha})
        self.teacher = None if teacher is None else self.keep_frozen(load(teacher))
        self.alpha, self.num_crops = alpha, num_crops
        self.noise = NoiseModel()

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if issubclass(net_class, BlindSpotNetwork):
            raise UserError(f"network.type: {net_class.__name__} has a blind spot, which is not needed; use PhotoNet")
        if arguments["loss"] == "renoise" and arguments["teacher"] is None:
            raise UserError("model.teacher: missing; renoise needs the weights of a network that denoises")
        if arguments["loss"] == "recorrupt" and arguments["teacher"] is not None:
            raise UserError("model.teacher: recorrupt has none; leave it out, or use loss: renoise")
        if arguments["alpha"][0] > arguments["alpha"][1]:
            raise UserError(f"model.alpha: {list(arguments['alpha'])} is no range; exchange the two")

    def prepare(self, images: ImageSet, seed: int) -> None:
        crops = _crops(images, self.num_crops, seed)
        if self.teacher is None:
            noise = estimate(crops, seed)
        else:
            noise = from_residual(((crop, self._cleaned(crop)) for crop in crops), seed)
        self.noise = noise.to(self.noise.levels.device)

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        alpha = _log_uniform(noisy, *self.alpha)
        if self.teacher is not None:
            with torch.no_grad():
                target = self.teacher(noisy).float().clamp(0, 255)
            noise = self.noise.sample(target, scale=alpha, clipped=False)
            output = self.net((target + noise).clamp(0, 255).round()).float()
            mse = (output - target).square().mean(dim=(1, 2, 3))
            return {"loss": (mse + 1).log().mean() / 2, "mse": mse.mean().detach()}
        around = gaussian_blur(noisy, noisy.new_full((len(noisy), 3), 2.0))
        noise = self.noise.sample(around)
        output = self.net(noisy + alpha * noise).float()
        error = (output - (noisy - noise / alpha)).square().mean(dim=(1, 2, 3), keepdim=True)
        return {"loss": (error * alpha.square() / (1 + alpha.square())).mean()}

    def metadata(self) -> dict[str, Any]:
        return {"noise": self.noise.to_dict()}

    @torch.no_grad()
    def _cleaned(self, crop: np.ndarray) -> Tensor:
        assert self.teacher is not None
        device = next(self.teacher.parameters()).device
        return self.teacher.denoise(to_tensor(crop)[None].to(device))[0].clamp(0, 255).cpu()


def _crops(images: ImageSet, number: int, seed: int) -> list[np.ndarray]:
    """Random crops of at most 256 x 256 pixels, as many from each picture as can be, pictures in order."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(np.arange(max(number, len(images))) % len(images))[:number])
    crops = []
    for index in chosen:
        height, width = images.size(int(index))
        side = min(256, height, width)
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        crops.append(images.crop(int(index), top, left, side))
    return crops


def _log_uniform(x: Tensor, low: float, high: float) -> Tensor:
    """One number a picture: (B, 1, 1, 1)."""
    return torch.exp(torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(math.log(low), math.log(high)))
