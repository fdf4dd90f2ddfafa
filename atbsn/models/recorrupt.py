"""Recorrupted-to-Recorrupted (Pang et al., CVPR 2021) with noise models estimated from the noisy pictures alone."""

import math
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.archs.weights import load
from atbsn.data.base import ImageSet
from atbsn.models.base import Model, check_channels, cleaned_by
from atbsn.noise import NoiseModel, bounded, estimate, estimate_with
from atbsn.noise.camera import RandomCamera, gaussian_blur
from atbsn.pictures import to_tensor
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError
from atbsn.utils.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Alpha = Annotated[float, Gt(0), Le(16)]
_MOST = 0.6
"""Of the level of the noise, that a teacher takes off who knows it."""


@MODELS.register
class RecorruptModel(Model):
    """Two pictures with independent noise out of one, and one is to be found from the other.

    With y = x + n the noisy patch and n' drawn from the noise model of its picture, of the level of the pixels around::

        recorrupt    y1 = y + a n',  y2 = y - n' / a          mean (N(y1) - y2)^2 / v,  v = 1 + (1 + 1 / a^2) mean n'^2
        renoise      x' = teacher(y),  y1 = x' + a n'         log(1 + mean (N(y1) - x')^2) / 2

    In ``recorrupt`` the noise of y1 and of y2 is uncorrelated when n' has the covariance of n, so that squared error
    has its minimum at the mean of x given y1. No blind spot is asked for, so weak noise is no obstacle. a is drawn for
    every patch: the noise of y1 is sqrt(1 + a^2) times that of y. v, the variance of y2's noise, lets weak noise count
    as much as strong.

    In ``renoise`` the noise is the one that the teacher took off (``estimate_with``), which is the better estimate
    where the noise is strong and hides what is flat. The network that comes out may be the next teacher.
    With ``strong``, pictures of any noise may be given, and the loss is chosen by it.

    Patches of nearly clean pictures (``ReducedFolder``) in the same batch are taken by a ``RandomCamera`` instead, with
    the loss of ``RenoiseModel``: so a network learns the noise of its pictures and keeps what it knows of others'.

    The noise models are estimated when a training begins, travel in its state and with the weights
    (``metadata["noise"]``: that of all pictures).

    Args:
        net: an ordinary network.
        teacher: weight file; with it the loss is ``renoise``, without ``recorrupt``. A network with a blind spot cleans
            by the mean over its ``family``.
        alpha: range of a, drawn log-uniformly.
        weight: of the patches of noisy pictures against those of nearly clean ones.
        num_crops: crops of 256 x 256 pixels (or less) that the model of all pictures is estimated from.
        own_models: sets of at most so many noisy pictures get a noise model for each; others one for all.
        strong: with a teacher: ``renoise`` only where the mean level of the noise is above this, in grey values, and
            the teacher takes most of it off; else ``recorrupt``, with the noise ``bounded`` by what the teacher takes
            off. 0: always ``renoise``.

    Raises:
        UserError: the network has a blind spot, the teacher is for other channels, or the range of ``alpha`` is none.
    """

    renoised: Tensor

    def __init__(
        self,
        net: Network,
        teacher: str | None = None,
        alpha: tuple[Alpha, Alpha] = (0.5, 2.0),
        weight: PositiveFloat = 1.0,
        num_crops: PositiveInt = 256,
        own_models: NonNegativeInt = 64,
        strong: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__(net)
        self.check_network(type(net), {"alpha": alpha})
        self.teacher = None if teacher is None else self.keep_frozen(load(teacher))
        if self.teacher is not None:
            check_channels(self.teacher, teacher, net.channels)
        self.alpha, self.weight = alpha, weight
        self.num_crops, self.own_models, self.strong = num_crops, own_models, strong
        self.camera = RandomCamera()
        self.noise = NoiseModel(net.channels)
        self.each = nn.ModuleDict()
        self.register_buffer("nearly_clean", torch.zeros(0, dtype=torch.bool))
        self.register_buffer("renoised", torch.tensor(teacher is not None))
        self.mixed, self.renoise = False, teacher is not None

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if issubclass(net_class, BlindSpotNetwork):
            raise UserError(f"network.type: {net_class.__name__} has a blind spot, which is not needed; use PhotoNet")
        if arguments["alpha"][0] > arguments["alpha"][1]:
            raise UserError(f"model.alpha: {list(arguments['alpha'])} is no range; exchange the two")

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return math.lcm(net_class.size_multiple, RandomCamera.size_multiple)

    def prepare(self, images: ImageSet, seed: int) -> None:
        flags = [images.nearly_clean(index) for index in range(len(images))]
        noisy = [index for index, flag in enumerate(flags) if not flag]
        device = self.noise.levels.device
        self.nearly_clean, self.mixed = torch.tensor(flags, device=device), any(flags)
        if not noisy:
            raise UserError(f"{images.key(0)}: all pictures are nearly clean; RecorruptModel needs noisy ones")
        if self.mixed and self.net.channels != 3:
            raise UserError(
                f"network.channels: {self.net.channels}: the camera that takes nearly clean pictures has 3; leave out "
                "these pictures (ReducedFolder with factors above 1), or set network.channels: 3"
            )
        crops = _crops(images, noisy, self.num_crops, seed, self.net.channels)
        self.noise = self._estimated(crops, seed, self.strong > 0).to(device)
        self.renoised.fill_(self.renoise)
        if 1 < len(noisy) <= self.own_models:
            for index in noisy:
                crops = _crops(images, [index], max(1, self.num_crops // 4), seed, self.net.channels)
                self.each[str(index)] = self._estimated(crops, seed).to(device)

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        device = self.noise.levels.device
        for name in sorted({name.split(".")[1] for name in state if name.startswith("each.")}):
            self.each[name] = NoiseModel(self.net.channels).to(device)
        if "nearly_clean" in state:
            self.nearly_clean = state["nearly_clean"].to(device)
        super().load_own_state(state)
        self.mixed, self.renoise = bool(self.nearly_clean.any()), bool(self.renoised)

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        alpha = torch.exp(noisy.new_empty(len(noisy), 1, 1, 1).uniform_(*map(math.log, self.alpha)))
        if not self.renoise:
            around = gaussian_blur(noisy, noisy.new_full(noisy.shape[:2], 2.0))
            noise = self._noise(around, batch["index"], clipped=True)
            given, target = noisy + alpha * noise, noisy - noise / alpha
        else:
            assert self.teacher is not None
            with torch.no_grad():
                target = cleaned_by(self.teacher, noisy)
            noise = alpha * self._noise(target, batch["index"], clipped=False)
            given = (target + noise).clamp(0, 255).round()
        if self.mixed:
            clean = self.nearly_clean[batch["index"].to(noisy.device)]
            taken, original = self.camera(noisy)
            given = torch.where(clean[:, None, None, None], taken, given)
            target = torch.where(clean[:, None, None, None], original, target)
        mse = (self.net(given).float() - target).square().mean(dim=(1, 2, 3))
        loss = (mse + 1).log() / 2
        if not self.renoise:
            variance = 1 + (1 + 1 / alpha.flatten().square()) * noise.square().mean(dim=(1, 2, 3))
            recorrupted = self.weight * mse / variance
            loss = torch.where(clean, loss, recorrupted) if self.mixed else recorrupted
        return {"loss": loss.mean(), "mse": mse.mean().detach()}

    def metadata(self) -> dict[str, Any]:
        return {"noise": self.noise.to_dict()}

    def _noise(self, around: Tensor, index: Tensor, clipped: bool) -> Tensor:
        """The noise of patches of the pictures ``index`` (on the CPU) with the local means ``around``."""
        if not self.each:
            return self.noise.sample(around, clipped=clipped)
        names = [str(number) for number in index.tolist()]
        patches = zip(names, around.split(1), strict=True)
        return torch.cat([self._model_of(name).sample(patch, clipped=clipped) for name, patch in patches])

    def _model_of(self, name: str) -> NoiseModel:
        model = self.each[name] if name in self.each else self.noise  # noqa: SIM401 (a ModuleDict has no get)
        assert isinstance(model, NoiseModel)
        return model

    def _estimated(self, crops: list[np.ndarray], seed: int, choose: bool = False) -> NoiseModel:
        """The noise model of ``crops`` for the loss that is minimised, which ``choose`` decides."""
        if self.teacher is None:
            return estimate(crops, seed)
        through = estimate_with(partial(_cleaned, self.teacher), crops, seed)
        if self.renoise and not choose:
            return through
        found = bounded(estimate(crops, seed), through)
        if choose:
            level, taken = (_mean_level(model, crops) for model in (found, through))
            self.renoise = level > self.strong and taken > _MOST * level
        return through if self.renoise else found


def _mean_level(model: NoiseModel, crops: list[np.ndarray]) -> float:
    """Root mean square of the level at the pixels of ``crops``."""
    levels = [model.level(to_tensor(crop)[None]).square().mean() for crop in crops]
    return float(torch.stack(levels).mean().sqrt())


@torch.no_grad()
def _cleaned(net: Network, crop: Tensor) -> Tensor:
    noisy = crop[None].to(next(net.parameters()).device)
    clean = cleaned_by(net, noisy) if isinstance(net, BlindSpotNetwork) else net.denoise(noisy).clamp(0, 255)
    return clean[0].cpu()


def _crops(images: ImageSet, indices: list[int], number: int, seed: int, channels: int) -> list[np.ndarray]:
    """Random crops of at most 256 x 256 pixels, as many from each of the pictures ``indices`` as can be, in order.

    They have the ``channels`` of the network: for one, a single one of a grey picture's three, which are the same.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(np.arange(max(number, len(indices))) % len(indices))[:number])
    crops = []
    for index in (indices[int(position)] for position in chosen):
        height, width = images.size(index)
        side = min(256, height, width)
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        crops.append(images.crop(index, top, left, side)[..., :channels])
    return crops
