"""Distilling the family of AT-BSN's teachers into one ordinary network (arXiv 2303.16783, section 4)."""

import hashlib
from collections.abc import Callable, Sequence
from math import lcm
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.atbsn import ATBSN
from atbsn.archs.base import Network
from atbsn.archs.students import StudentC
from atbsn.archs.weights import load
from atbsn.models.base import Model
from atbsn.ops.blind_spot import blind_spot_shift
from atbsn.ops.padding import reflect_pad
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError
from atbsn.utils.types import BlindSpot, NonNegativeFloat


def _check_ks(ks: Sequence[int]) -> Sequence[int]:
    """Raise unless ``ks`` names a family of teachers. Option files are checked with it before anything is built."""
    if not ks:
        raise UserError("ks is empty: name at least one blind spot, such as [0, 1, 3, 5, 7, 9, 11]")
    for k in ks:
        blind_spot_shift(k)
    if len(set(ks)) < len(ks):
        raise UserError(f"ks = {list(ks)}: a blind spot counts once; use {sorted(set(ks))}")
    return ks


@MODELS.register
class DistillModel(Model):
    """Many blind spots of one frozen teacher, one student without any.

    With y the noisy patch, N the student, F(y; k) the teacher and sg the stop-gradient, ``loss`` is::

        multi_teacher    sum_k mean |N(y) - sg F(y; k)|
        mean_teacher     mean |N(y) - sg mean_k F(y; k)|
        region           mean (1 - a) |N(y) - sg F(y; k_flat)| + mean a |N(y) - sg F(y; k_texture)|

    All F(y; k) come from one feature pass. The teacher is no sub-module: it is neither trained, saved nor
    synchronised between processes, but it follows the method to its device, type and memory format.

    ``region`` is an ablation; the larger of its two blind spots is for flat pixels. The weight a of texture is
    SASS's (Li et al., CVPR 2023), applied to AT-BSN's teachers: ``texture_weight``.

    Args:
        net: the student.
        teacher: weight file of an ATBSN.
        ks: blind spots of the teachers; the default is the published set for SIDD, [0, 1, 3, 5, 7, 9] that for DND.
            ``region`` takes two: [0, 9].
        transfer: start from the teacher's UNet, all of it but dec1. By default StudentC does, and others do not:
            their layers are not the teacher's.
        flat_std: local standard deviation below which a pixel tends to flat (``region``).
        texture_std: local standard deviation above which a pixel tends to texture (``region``).

    Raises:
        UserError: ``teacher`` cannot be read or is not an ATBSN; the student has a blind spot, or cannot take over
            the teacher's weights; ``ks`` is empty, repeats itself or has an even number.
    """

    teacher: ATBSN

    def __init__(
        self,
        net: Network,
        teacher: str,
        ks: Annotated[Sequence[BlindSpot], AfterValidator(_check_ks)] = (0, 1, 3, 5, 7, 9, 11),
        loss: Literal["multi_teacher", "mean_teacher", "region"] = "multi_teacher",
        transfer: bool | None = None,
        flat_std: NonNegativeFloat = 1.0,
        texture_std: NonNegativeFloat = 5.0,
    ) -> None:
        super().__init__(net)
        if net.blind_spots:
            raise UserError(
                f"network.type: {type(net).__name__} has a blind spot, a student has none; use StudentA, B or C"
            )
        if loss == "region" and len(ks) != 2:
            raise UserError(f"model.ks: {list(ks)}: region takes two, for texture and for flat; use [0, 9]")
        if flat_std > texture_std:
            raise UserError(f"model.flat_std: {flat_std} exceeds texture_std = {texture_std}; lower it")
        self.ks = tuple(_check_ks(ks))
        self.loss = loss
        self.flat_std, self.texture_std = flat_std, texture_std

        self.teacher_file = Path(teacher)
        # Past nn.Module's own __setattr__, which would make the teacher a sub-module.
        object.__setattr__(self, "teacher", _load_teacher(self.teacher_file))
        self.teacher_sha256 = hashlib.sha256(self.teacher_file.read_bytes()).hexdigest()
        if transfer or (transfer is None and isinstance(net, StudentC)):
            transfer_weights(self.teacher, net)

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return lcm(net_class.size_multiple, ATBSN.size_multiple)

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        with torch.no_grad():  # not inference_mode: region saves what depends on the targets for backward
            targets = self.teacher.forward_teachers(noisy, self.ks).float()
        output = self.net(noisy).float()
        if self.loss == "mean_teacher":
            return {"loss": F.l1_loss(output, targets.mean(dim=0))}
        if self.loss == "region":
            return {"loss": self._region(output, targets)}
        distances = torch.stack([F.l1_loss(output, target) for target in targets])
        apart = {f"k{k}": distance for k, distance in zip(self.ks, distances.detach(), strict=True)}
        return {"loss": distances.sum(), **apart}

    def metadata(self) -> dict[str, Any]:
        teacher = {"file": self.teacher_file.as_posix(), "sha256": self.teacher_sha256, "ks": list(self.ks)}
        return {"teacher": teacher, "loss": self.loss}

    def _region(self, output: Tensor, targets: Tensor) -> Tensor:
        flat, texture = targets[self.ks.index(max(self.ks))], targets[self.ks.index(min(self.ks))]
        weight = texture_weight(flat, self.flat_std, self.texture_std)
        return ((1 - weight) * (output - flat).abs() + weight * (output - texture).abs()).mean()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """Every conversion (to, cuda, bfloat16, channels-last, ...) comes through here; take the teacher along."""
        self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)


def texture_weight(picture: Tensor, flat_std: float, texture_std: float) -> Tensor:
    """How textured each pixel of ``picture`` is: (B, 3, H, W), [0, 255] -> (B, 1, H, W) in (0, 1).

    With s the standard deviation of grey over the 7 x 7 pixels around (Li et al., CVPR 2023)::

        a = sigmoid(s - flat_std)  if s < flat_std,   sigmoid(s - texture_std)  if s > texture_std,   else 1/2
    """
    grey = picture.mean(dim=1, keepdim=True)
    grey = reflect_pad(grey - grey.mean(dim=(2, 3), keepdim=True), 3, 3, 3, 3)
    variance = F.avg_pool2d(grey.square(), 7, stride=1) - F.avg_pool2d(grey, 7, stride=1).square()
    std = variance.clamp(min=0).sqrt()
    return torch.sigmoid((std - flat_std).clamp(max=0) + (std - texture_std).clamp(min=0))


def transfer_weights(teacher: ATBSN, student: Network) -> None:
    """Copy the teacher's UNet, all but dec1 (whose output is another), into student C.

    Raises:
        UserError: ``student`` is not a StudentC, or has another width or mean than the teacher.
    """
    if not isinstance(student, StudentC):
        raise UserError(
            f"model.transfer: {type(student).__name__} has other layers than the teacher; "
            "use StudentC, or transfer: false"
        )
    for name, own, needed in (
        ("width", student.unet.intro.conv.out_channels, teacher.unet.intro.conv.out_channels),
        ("mean", student.mean, teacher.mean),
    ):
        if own != needed:
            raise UserError(
                f"network.{name}: {own}, but the teacher, whose weights are taken over, has {needed}; "
                f"use {name}: {needed}, or model.transfer: false"
            )
    kept = {name: weight for name, weight in teacher.unet.state_dict().items() if not name.startswith("dec1.")}
    student.unet.load_state_dict(kept, strict=False)


def _load_teacher(path: Path) -> ATBSN:
    """The frozen network in ``path``, in evaluation mode."""
    teacher = load(path)
    if not isinstance(teacher, ATBSN):
        raise UserError(
            f"model.teacher: {path}: holds a {type(teacher).__name__}, but only an ATBSN has blind spots to choose "
            "from; give the weights of the teacher"
        )
    return teacher.requires_grad_(False)
