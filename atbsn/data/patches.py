"""Training patches. Picture, place and orientation of a patch depend only on the seed and the sample number."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from atbsn.data.base import ImageSet
from atbsn.data.stream import SAMPLES, generator
from atbsn.ops.dihedral import FLIPS, ORIENTATIONS, ROTATIONS, dihedral
from atbsn.pictures import to_depth
from atbsn.utils.errors import UserError
from atbsn.utils.types import NonNegativeInt, PositiveInt


class PatchDataset(Dataset[Any]):
    """Random noisy patches, numbered without end.

    In each run of ``len(self)`` sample numbers (an epoch) every picture comes once, in a new order, unless the set has
    another rule (``pick``). Nothing depends on what was drawn before, so the patches are the same with any number of
    workers, ranks and interruptions.

    Args:
        images: the pictures that patches are cut from. They are decoded once, when this object is made. A folder leaves
            out pictures that are too small.
        patch_size: side of a patch, pixels.
        use_flip: flip patches left-right and up-down.
        use_rot: rotate patches by multiples of 90 degrees; with ``use_flip``, all 8 orientations.
        seed: seed of everything that is drawn, 0 to 2**64 - 1.
        size_multiple: the number that ``patch_size`` must be a multiple of, for the message if pictures are too small.
        channels: number of channels of the network. A network for 3 gets grey pictures as RGB.

    Raises:
        UserError: pictures are smaller than the patch, have other channels, cannot be read, or do not fit in memory.
    """

    def __init__(
        self,
        images: ImageSet,
        patch_size: PositiveInt,
        use_flip: bool = True,
        use_rot: bool = True,
        seed: NonNegativeInt = 0,
        size_multiple: PositiveInt = 1,
        channels: PositiveInt = 3,
    ) -> None:
        self.channels = channels
        self.size_multiple = size_multiple
        self.images = images
        self.patch_size = patch_size
        self.seed = seed
        self.orientations = {
            (True, True): ORIENTATIONS,
            (True, False): FLIPS,
            (False, True): ROTATIONS,
            (False, False): (0,),
        }[use_flip, use_rot]
        images.keep_usable(patch_size)
        self._sizes = [images.size(index) for index in range(len(images))]
        self._check_sizes()
        images.preload()
        self.depth = images.depth()
        self._check_channels()

    def __len__(self) -> int:
        """The number of samples of an epoch; sample numbers may be larger."""
        return len(self.images)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Cut sample ``number`` of the whole training.

        Returns:
            ``noisy``: (P, P, C), not yet turned, uint8, uint16 or float32 in [0, 255], the type that holds every
            picture of the set; ``orientation``: for ``dihedral``; ``index``: that of the picture.
        """
        index = self.images.pick(self.seed, number)
        height, width = self._sizes[index]
        rng = generator(self.seed, number, SAMPLES)
        top = int(rng.integers(height - self.patch_size + 1))
        left = int(rng.integers(width - self.patch_size + 1))
        orientation = self.orientations[int(rng.integers(len(self.orientations)))]
        patch = self.images.crop(index, top, left, self.patch_size)
        if self.channels == 1:
            patch = patch[..., :1]
        patch = patch.copy() if patch.dtype == self.depth else to_depth(patch, self.depth)
        return {"noisy": torch.from_numpy(patch), "orientation": orientation, "index": index}

    def _check_channels(self) -> None:
        found = self.images.channels()
        if found == {self.channels} or (self.channels == 3 and found <= {1, 3}):
            return
        there = " and ".join(map(str, sorted(found)))
        remedy = "train on pictures of one kind"
        if found <= {1, 3}:
            remedy = "set network.channels: 3" if 3 in found else "set network.channels: 1, or 3"
        elif len(found) == 1:
            remedy = f"set network.channels: {there}"
        raise UserError(
            f"{self.images.key(0)}: pictures of {there} channels, but the network is for {self.channels}; {remedy}"
        )

    def _check_sizes(self) -> None:
        size = self.patch_size
        multiple = self.size_multiple
        small = [index for index, (height, width) in enumerate(self._sizes) if min(height, width) < size]
        if not small:
            return
        height, width = self._sizes[small[0]]
        more = f" (and {len(small) - 1} more of {len(self)} pictures)" if len(small) > 1 else ""
        smallest = min(min(self._sizes[index]) for index in small) // multiple * multiple
        remedy = f"set patch_size to {smallest} or less, or remove small pictures"
        if not smallest:
            remedy = f"remove small pictures: a patch is a multiple of {multiple}, so a side needs {multiple} at least"
        raise UserError(
            f"{self.images.key(small[0])}: {height}x{width} pixels{more}, smaller than the {size}x{size} "
            f"patch; {remedy}"
        )


def to_batch(raw: dict[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    """Make the batch for a method from what the loader yields: move it to ``device``, and turn and convert it there.

    Returns:
        ``noisy``: (B, C, P, P), RGB or grey, float32 in [0, 255], channels last in memory; ``index``: (B,), the indices
        of the pictures, on the CPU.
    """
    noisy = raw["noisy"].to(device, non_blocking=True).permute(0, 3, 1, 2)
    orientation = raw["orientation"].to(device, non_blocking=True)
    deep = noisy.dtype == torch.uint16
    if deep:  # PyTorch converts uint16, but has hardly any other operator for it
        noisy = noisy.view(torch.int16)
    noisy = dihedral(noisy, orientation)
    noisy = noisy.view(torch.uint16).float() / 257 if deep else noisy.float()
    return {"noisy": noisy, "index": raw["index"]}
