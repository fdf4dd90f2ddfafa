"""Training with simulated noise: nearly clean pictures, taken again by cameras that are drawn at random."""

from math import lcm
from typing import Any, Literal

import torch
from torch import Tensor

from atbsn.archs.base import Network
from atbsn.archs.weights import load
from atbsn.models.base import Model, check_plain, check_teacher_channels, cleaned_by
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
    """Add a random camera's noise to nearly clean pictures, and learn to take it off.

    With x a patch of a nearly clean picture (``ReducedFolder``), and y what ``RandomCamera`` makes of it, or
    ``RandomSensor`` for other than three channels::

        psnr    mean over pictures of log(1 + mean (N(y) - x)^2) / 2
        l1      mean |N(y) - x|

    Minimising ``psnr`` nearly maximises the mean PSNR, so that weak noise counts as much as strong noise.

    With a ``teacher``, the noisy pictures themselves are cleaned by it first, at full size, and x is the result. So the
    network learns from the scenes of these pictures.

    With ``raw`` the cameras give their mosaics (``RandomMosaic``), for a network with 4 channels that denoises raw
    files (``RawFolder``). Errors are then those of the square root of the light (``to_root``), so that errors in the
    dark count about as much as an eye sees them.

    Args:
        net: an ordinary network.
        teacher: weight file of the network that cleans the pictures first. One with a blind spot cleans by the mean
            over its ``family``. Without a teacher, the pictures are taken to be nearly clean.
        loss: ``psnr`` or ``l1``.
        camera: fields of ``CameraPrior`` that differ from its defaults.
        cameras: a table of cameras (``atbsn noise --cameras``) that cameras are drawn from instead of from the prior.
        raw: learn the mosaics of the cameras instead of their pictures.

    Raises:
        UserError: the network is not an ordinary one, or it or the teacher has another number of channels than the
            pictures.
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
            check_teacher_channels(self.teacher, teacher, self.picture_channels)

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        check_plain(net_class, use="PhotoNet")

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
