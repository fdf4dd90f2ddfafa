"""Down-sampling that moves whole 2 x 2 patches, so that an even dilation stays even (PUCA, NeurIPS 2023)."""

from torch import Tensor


def patch_unshuffle(x: Tensor) -> Tensor:
    """Move the four 2 x 2 patches of each 4 x 4 block to channels: (B, C, H, W) -> (B, 4 C, H/2, W/2).

    H and W are multiples of 4. With q = 2 a + b the patch in row a and column b::

        out[4 c + q, 2 i + u, 2 j + v] = x[c, 4 i + 2 a + u, 4 j + 2 b + v]

    The result is channels last in memory.
    """
    blocks = x.unflatten(3, (-1, 2, 2)).unflatten(2, (-1, 2, 2))  # B C i a u j b v
    return blocks.permute(0, 2, 4, 5, 7, 1, 3, 6).flatten(5, 7).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def patch_shuffle(x: Tensor) -> Tensor:
    """The inverse of ``patch_unshuffle``: (B, 4 C, H, W) -> (B, C, 2 H, 2 W), H and W even."""
    patches = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).unflatten(1, (-1, 2, 2))  # B c a b i u j v
    return patches.permute(0, 4, 2, 5, 6, 3, 7, 1).flatten(4, 6).flatten(1, 3).permute(0, 3, 1, 2)
