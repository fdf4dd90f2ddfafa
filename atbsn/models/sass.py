"""SASS's training in three stages (Li et al., CVPR 2023, arXiv 2303.14934)."""

from math import lcm
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from atbsn.archs import build_arch
from atbsn.archs.atbsn import ATBSN
from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.archs.weights import load, save_weights
from atbsn.models.base import Model, check_plain, check_stds
from atbsn.ops.texture import texture_weight
from atbsn.registry import ARCHS, MODELS
from atbsn.utils.errors import UserError, at_fault
from atbsn.utils.types import NonNegativeFloat

NEEDED = {1: (), 2: ("bnn",), 3: ("bnn", "lan")}
"""The weight files of earlier stages that each stage needs."""


@MODELS.register
class SASSModel(Model):
    """Spatially adaptive self-supervision: a blind-spot network teaches flat pixels, a local network textured ones.

    With B the blind-spot network, N the local one (``LAN``), U the final one and a the ``texture_weight`` of B(y)::

        stage 1, B    L = mean |B(y) - y|
        stage 2, N    L = mean |N(y) - sg B(y)|
        stage 3, U    L = mean (1 - a) |U(y) - sg B(y)| + mean a |U(y) - sg N(y)|

    Each stage is a training of its own that uses the weights of the stages before it. a is 0.27 where B(y) is flat and
    rises to 1 in texture.

    Args:
        net: as published, stage 1: ``ATBSN``; stage 2: ``LAN``; stage 3: ``UNet`` with ``variant: sass``.
        stage: 1, 2 or 3.
        bnn: weight file of stage 1, needed by stages 2 and 3.
        lan: weight file of stage 2, needed by stage 3.
        k: blind spot of B, in all stages and while denoising.
        flat_std: grey values: local standard deviation below which a pixel is more flat than textured.
        texture_std: grey values: local standard deviation above which a pixel is more textured than flat.

    Raises:
        UserError: a file is missing, not needed, or of another kind of network; or stage 1 has a network without a
            blind spot.
    """

    bnn: BlindSpotNetwork
    lan: Network

    def __init__(
        self,
        net: Network,
        stage: Literal[1, 2, 3] = 1,
        bnn: str | None = None,
        lan: str | None = None,
        k: int = 9,
        flat_std: NonNegativeFloat = 1.0,
        texture_std: NonNegativeFloat = 5.0,
    ) -> None:
        super().__init__(net)
        arguments = {"bnn": bnn, "lan": lan, "stage": stage, "k": k, "flat_std": flat_std, "texture_std": texture_std}
        self.check_network(type(net), arguments)
        self.stage, self.k, self.flat_std, self.texture_std = stage, k, flat_std, texture_std
        files = {"bnn": bnn, "lan": lan}
        self.files = {name: Path(path) for name, path in files.items() if path is not None}
        for name, path in self.files.items():
            setattr(self, name, self.keep_frozen(_load(name, path, k)))

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        files = {}
        for name, network in (("bnn", "ATBSN"), ("lan", "LAN")):
            net = build_arch({"type": network, **ARCHS.get(network).example()})
            files[name] = str(folder / f"{name}.pth")
            save_weights(files[name], net.state_dict(), {"network": net.options})
        return {"stage": 3, **files}

    @classmethod
    def check_network(cls, net_class: type[Network], arguments: dict[str, Any]) -> None:
        stage = arguments["stage"]
        if stage == 1:
            if not issubclass(net_class, BlindSpotNetwork):
                raise UserError(f"network.type: {net_class.__name__} has no blind spot for SASS's stage 1; use ATBSN")
            _check_hole(net_class, arguments["k"])
        else:
            check_plain(net_class)
        for name in ("bnn", "lan"):
            if name in NEEDED[stage] and arguments[name] is None:
                raise UserError(f"model.{name}: missing; stage {stage} needs the weight file of an earlier stage")
            if name not in NEEDED[stage] and arguments[name] is not None:
                raise UserError(f"model.{name}: {arguments[name]}: stage {stage} does not use it; leave it out")
        check_stds(arguments["flat_std"], arguments["texture_std"])

    @classmethod
    def patch_multiple(cls, net_class: type[Network], arguments: dict[str, Any]) -> int:
        return lcm(net_class.size_multiple, ATBSN.size_multiple)

    @classmethod
    def check_patch(cls, net_class: type[Network], arguments: dict[str, Any], patch_size: int) -> None:
        holed = net_class if issubclass(net_class, BlindSpotNetwork) else ATBSN
        with at_fault(f"model.k: {arguments['k']}"):
            holed.check_patch(arguments["k"], patch_size)

    def losses(self, batch: dict[str, Tensor], progress: Tensor) -> dict[str, Tensor]:
        noisy = batch["noisy"]
        if self.stage == 1:
            return {"loss": (self.net(noisy, k=self.k) - noisy).abs().mean()}
        with torch.no_grad():
            flat = self.bnn(noisy, k=self.k).float()
            texture = self.lan(noisy).float() if self.stage == 3 else None
        output = self.net(noisy).float()
        if texture is None:
            return {"loss": (output - flat).abs().mean()}
        weight = texture_weight(flat, self.flat_std, self.texture_std)
        loss_flat = ((1 - weight) * (output - flat).abs()).mean()
        loss_texture = (weight * (output - texture).abs()).mean()
        return {"loss": loss_flat + loss_texture, "flat": loss_flat.detach(), "texture": loss_texture.detach()}

    def denoise_settings(self) -> dict[str, Any]:
        return {"k": self.k} if self.stage == 1 else {}

    def metadata(self) -> dict[str, Any]:
        return {"stage": self.stage, **{name: path.as_posix() for name, path in self.files.items()}}


def _load(name: str, path: Path, k: int) -> Network:
    """Load the network of an earlier stage, ``bnn`` or ``lan``, and check that it is one."""
    net = load(path)
    if isinstance(net, BlindSpotNetwork) != (name == "bnn"):
        remedy = "give that of stage 1" if name == "bnn" else "give that of stage 2"
        raise UserError(f"model.{name}: {path}: holds the weights of a {type(net).__name__}; {remedy}")
    if isinstance(net, BlindSpotNetwork):
        _check_hole(type(net), k)
    return net


def _check_hole(net_class: type[BlindSpotNetwork], k: int) -> None:
    with at_fault(f"model.k: {k}"):
        net_class.check_hole(k)
