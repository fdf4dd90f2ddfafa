"""PolyU: real photographs whose references are averages of many shots (Xu et al. 2018, arXiv 1804.02603)."""

from pathlib import Path
from typing import Any, Literal

from atbsn.data.folder import write_examples
from atbsn.data.paired import PairSet
from atbsn.data.pairing import pairs_by_ending
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError

_FOLDERS = {"original": "OriginalImages", "cropped": "CroppedImages"}
"""The folder of each split."""
MISALIGNED = frozenset({"SonyA7II_compu"})
"""Originals whose reference is shifted, so that their scores mean nothing; training can use them."""


@DATASETS.register
class PolyU(PairSet):
    """PolyU as its authors publish it, JPEG, 5 cameras, ISO 800 to 12800.

    Args:
        dataroot: the folder that holds ``OriginalImages`` and ``CroppedImages``.
        split: the 35 whole photographs, or the 100 test pairs of 512x512 pixels.
        misaligned: keep originals whose reference is misaligned; for training only, not for scores.

    Raises:
        UserError: the folder of the split is missing or holds no pairs.
    """

    def __init__(
        self,
        dataroot: str | Path,
        split: Literal["original", "cropped"] = "cropped",
        misaligned: bool = False,
    ) -> None:
        folder = Path(dataroot) / _FOLDERS[split]
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder; dataroot must be an unpacked "
                f"https://github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset"
            )
        pairs = pairs_by_ending(folder)
        if not pairs:
            raise UserError(f"{folder}: no *_real.JPG with *_mean.JPG in it; unpack the data set again")
        super().__init__([pair for pair in pairs if misaligned or pair[0] not in MISALIGNED])

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        names = [f"{name}_{kind}" for name in ("one", "two") for kind in ("real", "mean")]
        write_examples(folder / _FOLDERS["cropped"], *names)
        return {"dataroot": str(folder)}

    def groups(self, index: int) -> dict[str, str]:
        """The camera, and for crops the ISO: ``Canon5D2_5_160_3200_chair_11`` has aperture, shutter, ISO, scene."""
        camera, *settings = self.key(index).replace("Nikon_800", "Nikon800").split("_")
        return {"camera": camera, "iso": settings[2]} if len(settings) >= 4 else {"camera": camera}
