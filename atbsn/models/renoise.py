"""Learning from noise that is put on: pictures that are clean enough, and cameras drawn at random."""

from math import lcm
from typing import Any, Literal

import torch
from torch import Tensor

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.archs.weights import load
from atbsn.models.base import Model, check_channels, cleaned_by
from atbsn.noise.camera import RandomCamera
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.mosaic import RandomMosaic
from atbsn.noise.prior import CameraPrior
from atbsn.noise.sensor import camera_for
from atbsn.ops.root import to_root
from atbsn.pictures.mosaic import CHANNELS
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError


@MODELS.register
class RenoiseModel(Model):
    """Put a random camera's noise on nearly clean pictures, and take it off again.

    With x a patch of a picture that is clean enough (``ReducedFolder``), and y what ``RandomCamera`` makes of it, or
    for other than three channels ``RandomSensor``::

        psnr    mean over pictures of log(1 + mean (N(y) - x)^2) / 2
        l1      mean |N(y) - x|

    ``psnr`` weighs every picture by what its own PSNR would gain, so that weak noise counts as much as strong.

    With a ``teacher``, the noisy pictures themselves are cleaned by it first, at full size, and x is what it makes of
    them: so the network learns what these pictures show.

    With ``raw`` the cameras give their mosaics (``RandomMosaic``), for a network with 4 channels that denoises raw
    files (``RawFolder``), and errors are those of the square root of the light, ``to_root``: as large in the dark as an
    eye sees them.

    Args:
        net: an ordinary network.
        teacher: weight file of the network that cleans the pictures first (of one with a blind spot, the mean over its
            ``family``); without it they are clean enough.
        loss: ``psnr`` or ``l1``.
        camera: fields of ``CameraPrior`` that are to differ from its defaults: which cameras are drawn.
        cameras: a table of cameras (``atbsn noise --cameras``) to draw from in place of the prior's.
        raw: learn the mosaics of cameras in place of their pictures.

    Raises:
        UserError: the network has a blind spot, or other channels than what it is to learn, or the teacher has.
    """

    def __init__(
        self,
        net: Network,
        teacher: str | None = None,
        loss: Literal["psnr", "l1"] = "psnr",
        camera: CameraPrior = CameraPrior(),  # noqa: B008 (frozen)
        cameras: str | None = None,
        raw: bool = False,
    ) -> None:
        super().__init__(net)
        self.check_network(type(net), {})
        if raw and net.channels != CHANNELS:
            raise UserError(
                f"network.channels: {net.channels}: raw data are packed as {CHANNELS}; set it to {CHANNELS}"
            )
        self.loss, self.raw = loss, raw
        table = None if cameras is None else CameraTable.read_from(cameras)
        self.picture_channels = 3 if raw else net.channels
        self.camera = RandomMosaic(camera, table) if raw else camera_for(camera, net.channels, table)
        self.teacher = None if teacher is None else self.keep_frozen(load(teacher))
        if self.teacher is not None:
            check_channels(self.teacher, teacher, self.picture_channels)

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        if issubclass(net_class, BlindSpotNetwork):
            raise UserError(f"network.type: {net_class.__name__} has a blind spot, which is not needed; use PhotoNet")

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return lcm(net_class.size_multiple, RandomCamera.size_multiple)

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        pictures = batch["noisy"]
        if self.teacher is not None:
            with torch.no_grad():
                pictures = cleaned_by(self.teacher, pictures)
        noisy, clean = self.camera(pictures)
        found = self.net(noisy).float()
        error = to_root(found) - to_root(clean) if self.raw else found - clean
        if self.loss == "l1":
            return {"loss": error.abs().mean()}
        mse = error.square().mean(dim=(1, 2, 3))
        return {"loss": (mse + 1).log().mean() / 2, "mse": mse.mean().detach()}
