"""Recorrupted-to-Recorrupted (Pang et al., CVPR 2021) with noise models estimated from the noisy pictures alone."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.archs.weights import load
from atbsn.data.base import ImageSet
from atbsn.data.crops import random_crops
from atbsn.models.base import Model, check_plain, check_teacher_channels, cleaned_by
from atbsn.noise import NoiseModel, bounded, estimate, estimate_any, estimate_with
from atbsn.noise.camera import RandomCamera
from atbsn.noise.model import local_mean
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError
from atbsn.utils.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Alpha = Annotated[float, Gt(0), Le(16)]
_CROP_SIDE = 256
"""Pixels: longest side of the crops that a noise model is estimated from; 256 blocks of 16 x 16 pixels. Chosen by
hand."""


@MODELS.register
class RecorruptModel(Model):
    """Trains on pairs of pictures with independent noise that are made out of one noisy picture.

    With y = x + n the noisy patch and n' drawn from the noise model of its picture::

        recorrupt    y1 = y + a n',  y2 = y - n' / a          mean (N(y1) - y2)^2 / v,  v = 1 + (1 + 1 / a^2) mean n'^2
        renoise      x' = teacher(y),  y1 = x' + a n'         log(1 + mean (N(y1) - x')^2) / 2

    The level of n' is that of the noise model at the local mean of y, in ``renoise`` at x'.

    In ``recorrupt`` the noise of y1 and that of y2 are uncorrelated where n' has the covariance of n, so that the
    squared error has its minimum at the mean of x given y1. No blind spot is needed, so weak noise is no obstacle. a is
    drawn for every patch: the noise of y1 is sqrt(1 + a^2) times that of y. v, the variance of y2's noise, lets weak
    noise count as much as strong noise.

    In ``renoise`` the noise model is that of what the teacher takes off (``estimate_with``). It is the better estimate
    where noise is so strong that it hides which places are flat. The trained network may be the next teacher. With
    ``strong``, pictures with noise of any strength may be given, and the loss is chosen by that strength.

    Patches of nearly clean pictures (``ReducedFolder``) in the same batch are passed through a ``RandomCamera``
    instead and have the loss of ``RenoiseModel``. So a network learns the noise of its pictures and does not forget
    other noise.

    The noise models are estimated when a training begins. They travel in its state, and the model of all pictures
    travels with the weights (``metadata["noise"]``).

    Args:
        net: an ordinary network.
        teacher: weight file. With it the loss is ``renoise``, without it ``recorrupt``. A network with a blind spot
            cleans by the mean over its ``family``.
        alpha: range of a.
        weight: weight of a recorrupted patch in the loss; a nearly clean patch has weight 1.
        num_crops: number of crops, of at most 256 x 256 pixels, that the noise model of all pictures is estimated from.
        own_models: data sets of at most this many noisy pictures get a noise model for each picture, larger ones only
            the one of all pictures.
        strong: grey values. With a teacher: use ``renoise`` only where the mean level of the noise is above this and
            the teacher takes off most of it, otherwise ``recorrupt`` with a noise model that is ``bounded`` by what the
            teacher takes off. 0: always ``renoise``.

    Raises:
        UserError: the network is not an ordinary one, the teacher is for another number of channels, or ``alpha`` ends
            below its beginning.
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
            check_teacher_channels(self.teacher, teacher, net.channels)
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
        check_plain(net_class, use="PhotoNet")
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
        crops = self._crops(images, noisy, self.num_crops, seed)
        choose = self.teacher is not None and self.strong > 0
        self.noise = (self._chosen(crops, seed) if choose else self._estimated(crops, seed)).to(device)
        self.renoised.fill_(self.renoise)
        if 1 < len(noisy) <= self.own_models:
            for index in noisy:
                crops = self._crops(images, [index], max(1, self.num_crops // 4), seed)
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
        noisy, index = batch["noisy"], batch["index"]
        pairs = self._renoised(noisy, index) if self.renoise else self._recorrupted(noisy, index)
        if self.mixed:
            pairs = self._with_nearly_clean(pairs, noisy, index)
        mse = (self.net(pairs.given).float() - pairs.target).square().mean(dim=(1, 2, 3))
        logarithmic = (mse + 1).log() / 2
        loss = torch.where(pairs.logarithmic, logarithmic, self.weight * mse / pairs.variance)
        return {"loss": loss.mean(), "mse": mse.mean().detach()}

    def metadata(self) -> dict[str, Any]:
        return {"noise": self.noise.to_dict()}

    def _recorrupted(self, noisy: Tensor, index: Tensor) -> "_Pairs":
        """Make two pictures with uncorrelated noise of one: y + a n' and y - n' / a."""
        alpha = self._drawn_alpha(noisy)
        noise = self._noise(local_mean(noisy), index, clipped=True)
        variance = 1 + (1 + 1 / alpha.flatten().square()) * noise.square().mean(dim=(1, 2, 3))
        return _Pairs(
            noisy + alpha * noise, noisy - noise / alpha, variance, torch.zeros_like(variance, dtype=torch.bool)
        )

    def _renoised(self, noisy: Tensor, index: Tensor) -> "_Pairs":
        """Clean the patches by the teacher, and add new noise to them, in whole grey values."""
        assert self.teacher is not None
        alpha = self._drawn_alpha(noisy)
        with torch.no_grad():
            target = cleaned_by(self.teacher, noisy)
        given = (target + alpha * self._noise(target, index, clipped=False)).clamp(0, 255).round()
        one = noisy.new_ones(len(noisy))
        return _Pairs(given, target, one, torch.ones_like(one, dtype=torch.bool))

    def _with_nearly_clean(self, pairs: "_Pairs", noisy: Tensor, index: Tensor) -> "_Pairs":
        """Replace those of ``pairs`` whose pictures are nearly clean: a random camera takes these pictures."""
        clean = self.nearly_clean[index.to(noisy.device)]
        taken, original = self.camera(noisy)
        return _Pairs(
            torch.where(clean[:, None, None, None], taken, pairs.given),
            torch.where(clean[:, None, None, None], original, pairs.target),
            pairs.variance,
            pairs.logarithmic | clean,
        )

    def _drawn_alpha(self, noisy: Tensor) -> Tensor:
        """Draw an a for every patch, log-uniform in the range ``alpha``: (B, 1, 1, 1)."""
        return torch.exp(noisy.new_empty(len(noisy), 1, 1, 1).uniform_(*map(math.log, self.alpha)))

    def _noise(self, around: Tensor, index: Tensor, clipped: bool) -> Tensor:
        """Draw the noise of patches of the pictures ``index`` (on the CPU) with the local means ``around``."""
        if not self.each:
            return self.noise.sample(around, clipped=clipped)
        names = [str(number) for number in index.tolist()]
        patches = zip(names, around.split(1), strict=True)
        return torch.cat([self._model_of(name).sample(patch, clipped=clipped) for name, patch in patches])

    def _model_of(self, name: str) -> NoiseModel:
        model = self.each[name] if name in self.each else self.noise  # noqa: SIM401 (a ModuleDict has no get)
        assert isinstance(model, NoiseModel)
        return model

    def _crops(self, images: ImageSet, indices: list[int], number: int, seed: int) -> list[np.ndarray]:
        """Cut random crops of the pictures ``indices``, with as many channels as the network has.

        Crops of grey pictures have three equal channels; a network for one channel gets the first.
        """
        crops = random_crops(images, indices, number, _CROP_SIDE, seed)
        return [crop[..., : self.net.channels] for crop in crops]

    def _estimated(self, crops: list[np.ndarray], seed: int) -> NoiseModel:
        """Estimate the noise model that the loss needs: that of what the teacher takes off, or of the noise itself."""
        if self.teacher is None:
            return estimate(crops, seed)
        through = estimate_with(partial(_cleaned, self.teacher), crops, seed)
        return through if self.renoise else bounded(estimate(crops, seed), through)

    def _chosen(self, crops: list[np.ndarray], seed: int) -> NoiseModel:
        """Choose the loss by the strength of the noise in ``crops`` (``strong``), and return the noise model for it."""
        assert self.teacher is not None
        noise, self.renoise = estimate_any(partial(_cleaned, self.teacher), crops, self.strong, seed)
        return noise


@dataclass(frozen=True)
class _Pairs:
    """The inputs and targets of the network for a batch.

    Attributes:
        given, target: (B, C, H, W), [0, 255]; a recorrupted pair may go beyond.
        variance: (B,) v, the variance by which the squared error of a recorrupted pair is divided.
        logarithmic: (B,) bool: whether the loss of a patch is log(1 + mean squared error) / 2 instead.
    """

    given: Tensor
    target: Tensor
    variance: Tensor
    logarithmic: Tensor


@torch.no_grad()
def _cleaned(net: Network, crop: Tensor) -> Tensor:
    """Denoise ``crop`` (C, H, W), [0, 255], on the device of ``net``; the result is on the CPU."""
    noisy = crop[None].to(next(net.parameters()).device)
    clean = cleaned_by(net, noisy) if isinstance(net, BlindSpotNetwork) else net.denoise(noisy).clamp(0, 255)
    return clean[0].cpu()
