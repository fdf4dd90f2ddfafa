"""A network as an ONNX file, for pictures of any size, compared with it in ONNX Runtime before it gets its name."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically

TRACED = (2, 3, 70, 90)
CHECKED = ((1, 3, 64, 64), (1, 3, 33, 150), (2, 3, 101, 47), (1, 3, 256, 192))
"""Sizes on which the export is compared: multiples of 32 and not, even and odd, one picture and two."""
TOLERANCE = 1e-4
"""Largest difference, relative to the largest output: float32 sums in another order."""


class Denoising(nn.Module):
    """``Network.denoise`` with what its weights were trained for, as a module."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, noisy: Tensor) -> Tensor:
        return self.net.denoise(noisy, **self.net.denoise_settings)


def export(net: Network, path: Path, metadata: dict[str, Any]) -> float:
    """Write ``net`` to ``path``; the largest difference that ONNX Runtime shows, in grey levels.

    Input ``noisy`` and output ``denoised`` are (B, 3, H, W), RGB, float32 in [0, 255], the output not clipped. What the
    weights were trained for (statistics, padding) is inside. Needs the extra ``[onnx]``.

    Raises:
        UserError: the network has a blind spot, the packages are missing, the outputs differ, or ``path`` cannot be
            written. Then there is no file.
    """
    if isinstance(net, BlindSpotNetwork):
        raise UserError(
            f"{type(net).__name__} runs its UNet four times for every picture; distil it (-opt distill.yml) and "
            "export the student"
        )
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)}: not installed, and needed to export; pip install 'atbsn[onnx]'")
    module = Denoising(net.cpu()).eval()
    sizes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        module, (torch.rand(TRACED) * 255,), input_names=["noisy"], output_names=["denoised"], dynamo=True,
        dynamic_shapes={"noisy": sizes}, verbose=False,
    )  # fmt: skip
    assert program is not None, "with dynamo=True a program is returned"
    program.model.metadata_props["atbsn"] = json.dumps({**metadata, "network": net.options})
    content = program.model_proto.SerializeToString()
    difference = check(module, content)
    write_atomically(path, lambda file: file.write(content))
    return difference


@torch.inference_mode()
def check(module: nn.Module, content: bytes) -> float:
    """The largest difference between ``module`` and the exported one on pictures of several sizes.

    Raises:
        UserError: it is more than rounding.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for size in CHECKED:
        noisy = torch.rand(size, generator=generator) * 255
        expected = module(noisy)
        output = torch.from_numpy(session.run(["denoised"], {"noisy": noisy.numpy()})[0])
        difference = (output - expected).abs().max().item()
        if not difference <= TOLERANCE * expected.abs().max().item():
            raise UserError(
                f"{tuple(size)}: ONNX Runtime's output differs by {difference:.3g} grey levels; nothing was written; "
                "try another version of torch, onnxscript or onnxruntime"
            )
        largest = max(largest, difference)
    return largest
