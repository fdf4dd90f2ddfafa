"""Learning from noise that is put on: pictures that are clean enough, and cameras drawn at random."""

from math import lcm
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.archs.weights import load
from atbsn.models.base import Model, cleaned_by
from atbsn.noise.camera import (
    COMPRESSED,
    DEMOSAICING,
    PROCESSED,
    SHOT_NOISE,
    SOFTENED,
    SOFTNESS,
    RandomCamera,
)
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError
from atbsn.utils.types import Fraction, NonNegativeFloat


@MODELS.register
class RenoiseModel(Model):
    """Put a random camera's noise on nearly clean pictures, and take it off again.

    With x a patch of a picture that is clean enough (``ReducedFolder``), and y what ``RandomCamera`` makes of it::

        psnr    mean over pictures of log(1 + mean (N(y) - x)^2) / 2
        l1      mean |N(y) - x|

    ``psnr`` weighs every picture by what its own PSNR would gain, so that weak noise counts as much as strong.

    With a ``teacher``, the noisy pictures themselves are cleaned by it first, at full size, and x is what it makes of
    them: so the network learns what these pictures show.

    Args:
        net: an ordinary network.
        teacher: weight file of the network that cleans the pictures first (of one with a blind spot, the mean over its
            ``family``); without it they are clean enough.
        loss: ``psnr`` or ``l1``.
        shot_noise: range of the variance of a raw value of 1, drawn log-uniformly.
        processed: part of the cameras that smooth their noise.
        compressed: part of the pictures that are saved as JPEG.
        softened: part of the pictures that are blurred before the noise.
        softness: range of the standard deviation of that blur, pixels.
        demosaicing: shares of cameras that demosaic bilinearly, along edges, with Malvar's filters, and that need not.
        target: the mean of what the camera shows, or the scene without noise; see ``RandomCamera``.
        recoloured: part of the pictures that get other colours and less contrast.
        noiseless: part of the pictures that get no noise.
        grey: part of the pictures that are black and white.
        patterned: part of the pictures that get a fine regular pattern over a part of them.
    """

    def __init__(
        self,
        net: Network,
        teacher: str | None = None,
        loss: Literal["psnr", "l1"] = "psnr",
        shot_noise: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = SHOT_NOISE,
        processed: Fraction = PROCESSED,
        compressed: Fraction = COMPRESSED,
        softened: Fraction = SOFTENED,
        softness: tuple[NonNegativeFloat, NonNegativeFloat] = SOFTNESS,
        demosaicing: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = DEMOSAICING,
        target: Literal["mean", "scene"] = "mean",
        recoloured: Fraction = 0.0,
        noiseless: Fraction = 0.0,
        grey: Fraction = 0.0,
        patterned: Fraction = 0.0,
    ) -> None:
        super().__init__(net)
        self.check_network(type(net), {"shot_noise": shot_noise, "softness": softness, "demosaicing": demosaicing})
        self.loss = loss
        self.camera = RandomCamera(
            shot_noise=shot_noise, processed=processed, compressed=compressed, softened=softened, softness=softness,
            demosaicing=demosaicing, target=target, recoloured=recoloured, noiseless=noiseless,
            grey=grey, patterned=patterned,
        )  # fmt: skip
        self.teacher = None if teacher is None else self.keep_frozen(load(teacher))

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if issubclass(net_class, BlindSpotNetwork):
            raise UserError(f"network.type: {net_class.__name__} has a blind spot, which is not needed; use PhotoNet")
        for name in ("shot_noise", "softness"):
            low, high = arguments[name]
            if low > high:
                raise UserError(f"model.{name}: {[low, high]} is no range; exchange the two")
        if not sum(arguments["demosaicing"]):
            raise UserError("model.demosaicing: all shares are 0; give one of them a positive number")

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return lcm(net_class.size_multiple, RandomCamera.size_multiple)

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        pictures = batch["noisy"]
        if self.teacher is not None:
            with torch.no_grad():
                pictures = cleaned_by(self.teacher, pictures)
        noisy, clean = self.camera(pictures)
        error = self.net(noisy).float() - clean
        if self.loss == "l1":
            return {"loss": error.abs().mean()}
        mse = error.square().mean(dim=(1, 2, 3))
        return {"loss": (mse + 1).log().mean() / 2, "mse": mse.mean().detach()}
