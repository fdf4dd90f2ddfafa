"""Random sub-sample generation, RSG (SDAP, Pan et al., ICCV 2023, arXiv 2307.16825)."""

import torch
from torch import Tensor

from atbsn.utils.errors import UserError


def draw_permutations(x: Tensor, stride: int) -> Tensor:
    """Draw a uniform permutation of the f x f pixels of each cell of ``x`` (B, C, H, W), f being the ``stride``.

    Returns:
        (B, H/f, W/f, f*f) int64: sub-image j takes position [..., j] of the cell, counted row by row.

    Raises:
        UserError: H or W is not a multiple of ``stride``.
    """
    height, width = x.shape[-2:]
    if height % stride or width % stride:
        raise UserError(
            f"patch of {height} x {width} pixels: cells of {stride} x {stride} do not fit; "
            f"choose a patch_size that is a multiple of {stride}"
        )
    noise = torch.rand(x.shape[0], height // stride, width // stride, stride**2, device=x.device)
    return noise.argsort(dim=-1)


def permuted_sub_images(x: Tensor, permutations: Tensor, stride: int) -> Tensor:
    """RSG: make the f*f random sub-images of ``x`` (B, C, H, W), which together hold each pixel once.

    All channels of a pixel are picked together.

    Args:
        permutations: what ``draw_permutations`` returns for this ``stride`` f.

    Returns:
        (f*f, B, C, H/f, W/f).
    """
    height, width = permutations.shape[1:3]
    cells = x.unflatten(3, (width, stride)).unflatten(2, (height, stride)).permute(0, 1, 2, 4, 3, 5).flatten(4)
    picked = cells.gather(4, permutations.long().unsqueeze(1).expand(-1, x.shape[1], -1, -1, -1))
    return picked.permute(4, 0, 1, 2, 3)
