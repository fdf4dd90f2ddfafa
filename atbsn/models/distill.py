"""Distillation of a blind-spot network's family of teachers into one ordinary network (arXiv 2303.16783, section 4)."""

import hashlib
from collections.abc import Sequence
from math import lcm
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from atbsn.archs import build_arch
from atbsn.archs.atbsn import ATBSN
from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.archs.students import StudentC
from atbsn.archs.weights import load, network_class, save_weights
from atbsn.models.base import Model, check_plain, check_stds
from atbsn.ops.recharge import recharge
from atbsn.ops.texture import texture_weight
from atbsn.registry import MODELS
from atbsn.utils.errors import UserError, at_fault
from atbsn.utils.types import NonNegativeFloat


@MODELS.register
class DistillModel(Model):
    """Distil one frozen teacher with several blind spots into one student without a blind spot.

    With y the noisy patch, N the student, F(y; k) the teacher and sg the stop-gradient, ``loss`` is::

        multi_teacher    sum_k mean |N(y) - sg F(y; k)|
        recharged        as multi_teacher, but at every pixel one random target is replaced by y (``ops.recharge``)
        mean_teacher     mean |N(y) - sg mean_k F(y; k)|
        region           mean (1 - a) |N(y) - sg F(y; k_flat)| + mean a |N(y) - sg F(y; k_texture)|

    All F(y; k) come from one call of ``denoise_family``, which is one feature pass. The teacher sees the patch as it
    sees pictures when it denoises: the networks of TM-BSN and APR-RD, whose distillation is ``recharged``, put 16
    pixels of reflection around it.

    ``region`` is an ablation. The larger of its two blind spots is for flat pixels. The weight a of texture is SASS's
    (Li et al., CVPR 2023), applied to AT-BSN's teachers: ``texture_weight``.

    Args:
        net: the student.
        teacher: weight file of a blind-spot network.
        ks: blind spots of the teachers. The default is the published set for SIDD; [0, 1, 3, 5, 7, 9] is that for DND.
            ``region`` takes two: [0, 9].
        loss: one of the losses above.
        transfer: start with the weights of an ATBSN teacher's U-Net, without ``dec1``. By default StudentC does. The
            others cannot, because they have other layers.
        flat_std: grey values: local standard deviation below which a pixel is more flat than textured (``region``).
        texture_std: grey values: local standard deviation above which a pixel is more textured than flat (``region``).

    Raises:
        UserError: ``teacher`` cannot be read or has no blind spot; the student has one, or cannot take over the
            teacher's weights; ``ks`` is empty, has a blind spot twice or one that the teacher does not take.
    """

    teacher: BlindSpotNetwork

    def __init__(
        self,
        net: Network,
        teacher: str,
        ks: Sequence[int] = (0, 1, 3, 5, 7, 9, 11),
        loss: Literal["multi_teacher", "recharged", "mean_teacher", "region"] = "multi_teacher",
        transfer: bool | None = None,
        flat_std: NonNegativeFloat = 1.0,
        texture_std: NonNegativeFloat = 5.0,
    ) -> None:
        super().__init__(net)
        arguments = {"ks": ks, "loss": loss, "flat_std": flat_std, "texture_std": texture_std}
        self.check_network(type(net), arguments)
        self.teacher_file = Path(teacher)
        self.teacher = self.keep_frozen(_load_teacher(self.teacher_file))
        _check_holes(type(self.teacher), ks)
        self.teacher_sha256 = hashlib.sha256(self.teacher_file.read_bytes()).hexdigest()
        self.ks, self.loss = tuple(ks), loss
        self.flat_std, self.texture_std = flat_std, texture_std
        if transfer or (transfer is None and isinstance(net, StudentC) and isinstance(self.teacher, ATBSN)):
            transfer_weights(self.teacher, net)

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        teacher = build_arch({"type": "ATBSN", **ATBSN.example()})
        save_weights(folder / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
        return {"teacher": str(folder / "teacher.pth"), "ks": [0, 3]}

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        check_plain(net_class, use="StudentA, B or C")
        ks = arguments["ks"]
        if len(set(ks)) < len(ks):
            raise UserError(f"model.ks: {list(ks)}: a blind spot counts once; use {sorted(set(ks))}")
        teacher = _teacher_class(arguments["teacher"]) if "teacher" in arguments else None
        if teacher is not None:
            _check_holes(teacher, ks)
        if arguments["loss"] == "region" and len(ks) != 2:
            raise UserError(f"model.ks: {list(ks)}: region takes two, for texture and for flat; use [0, 9]")
        check_stds(arguments["flat_std"], arguments["texture_std"])

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        teacher = _teacher_class(arguments["teacher"])
        return lcm(net_class.size_multiple, (teacher or ATBSN).size_multiple)  # the published one

    @classmethod
    def check_patch(cls, net_class: type[Network], arguments: dict[str, Any], patch_size: int) -> None:
        teacher = _teacher_class(arguments["teacher"]) or ATBSN
        for k in arguments["ks"]:
            with at_fault(f"model.ks: {k}"):
                teacher.check_patch(k, patch_size)

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        with torch.no_grad():  # not inference_mode: region saves what depends on the targets for backward
            targets = self.teacher.denoise_family(noisy, self.ks).float()
        output = self.net(noisy).float()
        if self.loss == "mean_teacher":
            return {"loss": F.l1_loss(output, targets.mean(dim=0))}
        if self.loss == "region":
            return {"loss": self._region(output, targets)}
        if self.loss == "recharged":
            targets = recharge(targets, noisy)
        distances = (output - targets).abs().mean(dim=(1, 2, 3, 4))
        apart = {f"k{k}": distance for k, distance in zip(self.ks, distances.detach(), strict=True)}
        return {"loss": distances.sum(), **apart}

    def metadata(self) -> dict[str, Any]:
        teacher = {"file": self.teacher_file.as_posix(), "sha256": self.teacher_sha256, "ks": list(self.ks)}
        return {"teacher": teacher, "loss": self.loss}

    def _region(self, output: Tensor, targets: Tensor) -> Tensor:
        flat, texture = targets[self.ks.index(max(self.ks))], targets[self.ks.index(min(self.ks))]
        weight = texture_weight(flat, self.flat_std, self.texture_std)
        return ((1 - weight) * (output - flat).abs() + weight * (output - texture).abs()).mean()


def transfer_weights(teacher: BlindSpotNetwork, student: Network) -> None:
    """Copy an ATBSN teacher's U-Net into student C, without dec1, which has another number of outputs.

    Raises:
        UserError: ``teacher`` is not an ATBSN, or ``student`` is not a StudentC, or has another width or mean.
    """
    if not isinstance(teacher, ATBSN):
        raise UserError(
            f"model.transfer: the teacher is a {type(teacher).__name__}, whose layers no student has; "
            "use an ATBSN, or transfer: false"
        )
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


def _load_teacher(path: Path) -> BlindSpotNetwork:
    """Load the teacher in ``path``; raise a ``UserError`` if it has no blind spot."""
    teacher = load(path)
    if not isinstance(teacher, BlindSpotNetwork):
        raise UserError(
            f"model.teacher: {path}: holds a {type(teacher).__name__}, which has no blind spots to choose "
            "from; give the weights of a teacher, such as an ATBSN"
        )
    return teacher


def _teacher_class(path: str) -> type[BlindSpotNetwork] | None:
    """Find the class of the teacher in ``path``; None if the file cannot be read, so that nothing can be checked."""
    try:
        found = network_class(path)
    except UserError:  # the fault is reported when the teacher is loaded
        return None
    return found if issubclass(found, BlindSpotNetwork) else None


def _check_holes(teacher: type[BlindSpotNetwork], ks: Sequence[int]) -> None:
    with at_fault("model.ks"):
        teacher.check_holes(ks)
