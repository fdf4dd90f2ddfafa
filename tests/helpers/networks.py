"""What many networks are asked: pictures, plain forms, how far they see, and whether they draw what they are told."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from atbsn.archs import build_arch
from atbsn.archs.base import Tiled


def picture(*size: int, batch: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Pictures (batch, 3, *size) of independent values in [0, 255], always the same."""
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1), dtype=dtype) * 255


def pair(forms: ModuleType, name: str, **arguments: object) -> tuple[Any, Any]:
    """A network of ours and its plain form, out of the module ``forms``, with the same weights, in double precision."""
    torch.manual_seed(0)
    ours = build_arch({"type": name, **arguments}).double()
    plain = getattr(forms, name)(**arguments).double()
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def gradient_norm(net: nn.Module) -> float:
    """L2 norm of the gradient over all parameters."""
    squares = [parameter.grad.square().sum() for parameter in net.parameters() if parameter.grad is not None]
    return torch.stack(squares).sum().sqrt().item()


def influence(output: Tensor, x: Tensor, row: int, column: int) -> Tensor:
    """How much each pixel of ``x`` (B, 3, H, W) moves ``output`` at one place, (H, W): the largest of all pictures and
    channels. Give several pictures: a ReLU that is off hides what it sees."""
    seen = output[:, :, row, column] @ torch.tensor([0.7, -1.1, 1.3], dtype=output.dtype)
    (gradient,) = torch.autograd.grad(seen.sum(), x, retain_graph=True)
    return gradient.abs().amax(dim=(0, 1))


class Denoises(Protocol):
    """A network whose ``denoise`` has passes of refinement."""

    def denoise(
        self, noisy: Tensor, tiled: Tiled = ..., *, refine: int, generator: torch.Generator | None = ...
    ) -> Tensor: ...


@torch.no_grad()
def assert_draws_are_those_of_the_generator(net: Denoises, x: Tensor, laid: Sequence[Sequence[int]]) -> None:
    """With two passes of refinement, equal generators give equal pictures, and none is one of seed 0.

    Args:
        laid: the shapes of what is laid over tiles, one after the other.
    """
    first = net.denoise(x, refine=2)
    assert torch.equal(first, net.denoise(x, refine=2))
    assert torch.equal(first, net.denoise(x, refine=2, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(first, net.denoise(x, refine=2, generator=torch.Generator().manual_seed(1)))
    seen = []

    def whole(function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
        seen.append(tuple(image.shape))
        return function(image)

    assert torch.equal(first, net.denoise(x, whole, refine=2))
    assert seen == [tuple(shape) for shape in laid]
