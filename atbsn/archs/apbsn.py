"""AP-BSN (Lee et al., CVPR 2022, arXiv 2203.11799) and SDAP (Pan et al., ICCV 2023, arXiv 2307.16825).

Both apply one network, DBSNl, to sub-images. Noise that is correlated between neighbours is hardly correlated between
every second or every fifth pixel.
"""

from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn import functional as F

from atbsn.archs.base import Network, Tiled, seeded, untiled
from atbsn.archs.dbsn import RADIUS, DBSNl, NumModules, dbsnl_arguments
from atbsn.archs.foreign import under_our_names
from atbsn.ops.padding import pad_to_multiple
from atbsn.ops.pixel_shuffle import pixel_shuffle_downsample, pixel_shuffle_upsample
from atbsn.ops.refinement import random_replacing_refinement, replacement_masks
from atbsn.ops.subsample import batch_to_space, space_to_batch
from atbsn.registry import ARCHS
from atbsn.utils.types import Fraction, PositiveInt

MARGIN = 2
"""Pixels of zeros around each tile of AP-BSN's mosaics, as published."""
AT_ONCE_ON_GPU = 2**19
"""Pixels of refinement that a GPU computes as one batch. Chosen by hand."""

Stride = Annotated[int, Ge(1), Le(64)]
"""Stride of sub-images: each has every ``stride``-th pixel, down and across."""
Times = Annotated[int, Ge(0), Le(1000)]
"""Number of terms of a refinement."""


@ARCHS.register
class APBSN(Network):
    """AP-BSN: DBSNl on mosaics of sub-images, and random-replacing refinement (R3).

    ``net(noisy, pd=2)``: (B, 3, H, W), RGB, [0, 255], any size -> the same shape, not clipped: PD_pd^-1(B(PD_pd(y)))
    with the published mosaic. H and W are filled up with zeros to multiples of ``pd``. ``denoise`` adds R3, eight more
    passes at full resolution.

    In the mosaic a tile sees its neighbours across a gap of 4 pixels. In training on 120 x 120 pixels with pd = 5, the
    tiles have a pitch of 28 and the network has a radius of 29. So an output never sees its own pixel, but faintly the
    pixels beside it. With pd = 2 and tiles larger than the radius, nothing leaks.

    Args:
        width: channels; 128 has 3,656,131 parameters.
        num_modules: dilated modules of each branch.
        channels: number of channels of the pictures.
    """

    tile_overlap = 2 * RADIUS + 18

    def __init__(self, width: PositiveInt = 128, num_modules: NumModules = 9, channels: PositiveInt = 3) -> None:
        super().__init__()
        self.channels = channels
        self.bsn = DBSNl(width, num_modules, channels=channels)

    def forward(self, noisy: Tensor, pd: int = 2) -> Tensor:
        return _crop(self._through_mosaic(_fill(noisy, pd), pd, untiled), noisy)

    def denoise(
        self,
        noisy: Tensor,
        tiled: Tiled = untiled,
        *,
        pd: Stride = 2,
        refine: Times = 8,
        p: Fraction = 0.16,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape back, not clipped.

        A mosaic is made of the whole picture, and the network, whose radius is 29, is applied to tiles of the mosaic.
        So tiles change nothing.

        Args:
            pd: stride of the sub-images.
            refine: T, the number of terms of R3, each a pass; 0 for none.
            p: probability that a term takes the noisy value of an element, one channel of one pixel.
            generator: draws R3's masks.
        """
        filled = _fill(noisy, pd)
        estimate = self._through_mosaic(filled, pd, tiled)
        if refine:
            masks = replacement_masks(filled, refine, p, seeded(generator, noisy))
            at_once = max(1, AT_ONCE_ON_GPU // filled[:, 0].numel()) if noisy.is_cuda else 1
            estimate = random_replacing_refinement(partial(tiled, self.bsn), filled, estimate, masks, at_once)
        return _crop(estimate, noisy)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the network that is applied to mosaics and pictures, as ``nn.Module.compile`` does."""
        self.bsn.compile(*args, **kwargs)

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {"width": 4, "num_modules": 2}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        return dbsnl_arguments(shapes, "bsn.")

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The authors' state dict, with its mask buffers, as ours; None if it is ours already or another network's."""
        return under_our_names(cls.recognise, state, own="bsn.", foreign=())

    def _through_mosaic(self, noisy: Tensor, pd: int, tiled: Tiled) -> Tensor:
        return pixel_shuffle_upsample(tiled(self.bsn, pixel_shuffle_downsample(noisy, pd, MARGIN)), pd, MARGIN)


@ARCHS.register
class SDAP(DBSNl, Network):
    """SDAP: DBSNl, which is trained on random sub-images and denoises the four phases of a picture.

    ``net(noisy)``: (B, 3, H, W), RGB, [0, 255], any size -> the same shape, not clipped. It computes on [0, 1]. An
    output does not depend on its own pixel. Sub-images are items of a batch, so an output does not depend on the pixels
    of other sub-images either.

    Args:
        width: channels; 128 has 3,656,131 parameters.
        num_modules: dilated modules of each branch.
        channels: number of channels of the pictures.
    """

    tile_overlap = 2 * RADIUS + 18

    def __init__(self, width: PositiveInt = 128, num_modules: NumModules = 9, channels: PositiveInt = 3) -> None:
        super().__init__(width, num_modules, channels=channels)
        self.channels = channels

    def forward(self, noisy: Tensor) -> Tensor:
        return super().forward(noisy / 255) * 255

    def denoise(self, noisy: Tensor, tiled: Tiled = untiled, *, enhance: bool = False) -> Tensor:
        """Denoise ``noisy`` (B, 3, H, W), RGB, [0, 255], any size; the same shape back, not clipped.

        Args:
            enhance: SDAP (E): pass the result through the network once more, at full resolution.
        """
        phases = space_to_batch(pad_to_multiple(noisy, 2), 2)
        clean = _crop(batch_to_space(tiled(self, phases), 2), noisy)
        return tiled(self, clean) if enhance else clean

    @classmethod
    def example(cls) -> dict[str, Any]:
        return {"width": 4, "num_modules": 2}

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        return dbsnl_arguments(shapes)

    @classmethod
    def convert_state(cls, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The authors' state dict, with its mask buffers, as ours; None if it is ours already or another network's."""
        return under_our_names(cls.recognise, state, foreign=())


def _fill(noisy: Tensor, multiple: int) -> Tensor:
    """Pad ``noisy`` with zeros, at the bottom and on the right, to multiples of ``multiple``."""
    height, width = noisy.shape[-2:]
    return F.pad(noisy, (0, -width % multiple, 0, -height % multiple))


def _crop(output: Tensor, noisy: Tensor) -> Tensor:
    return output[..., : noisy.shape[-2], : noisy.shape[-1]]
