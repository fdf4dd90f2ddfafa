"""Which cameras a folder's pictures are of: a table for ``RenoiseModel``."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from atbsn.archs.weights import load
from atbsn.data.paired import PairedFolder
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.likeness import THOROUGH, cameras_like
from atbsn.noise.prior import CameraPrior
from atbsn.pictures import image_paths, read_picture, to_tensor
from atbsn.utils.errors import UserError


def cameras_of_pictures(noisy: Path, clean: Path | None, weights: str, prior: CameraPrior, most: int) -> CameraTable:
    """The cameras of ``prior`` that are nearest to pictures of ``noisy``.

    Args:
        most: how many pictures are looked at, spread evenly over their names.
        clean: folder of their references, of the same names; None: ``weights`` make them.

    Raises:
        UserError: a picture without a partner, of fewer than 64 pixels a side, or all are saturated or without noise.
    """
    if clean is None:
        paths = image_paths(noisy)
        chosen = _spread(len(paths), most)
        pairs = _cleaned((paths[i] for i in chosen), weights)
    else:
        images = PairedFolder(noisy, dataroot_clean=clean)
        chosen = _spread(len(images), most)
        pairs = ((to_tensor(images.read(i).rgb), to_tensor(images.read_clean(i).rgb)) for i in chosen)
    with tqdm(total=len(chosen), desc="cameras", unit="picture") as bar:
        try:
            return cameras_like(pairs, prior, each=bar.update, tried=THOROUGH)
        except ValueError as error:
            raise UserError(f"{noisy}: {error}; give other pictures") from None


def _spread(length: int, most: int) -> list[int]:
    """At most ``most`` indices below ``length``, at equal distances."""
    count = min(length, most)
    return [i * length // count for i in range(count)]


def _cleaned(paths: Iterable[Path], weights: str) -> Iterator[tuple[Tensor, Tensor]]:
    denoiser = photo_denoiser(load(weights))
    for path in paths:
        picture = to_tensor(read_picture(path).rgb)
        yield picture, denoiser(picture[None])[0].float().cpu()
