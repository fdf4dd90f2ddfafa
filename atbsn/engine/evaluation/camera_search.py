"""Find cameras whose noise is like that of a folder of pictures: a table for ``RenoiseModel``."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from atbsn.archs.weights import load
from atbsn.data.paired import PairedFolder
from atbsn.engine.evaluation.evaluator import spread
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.likeness import THOROUGH, cameras_like
from atbsn.noise.prior import CameraPrior
from atbsn.pictures import image_paths, read_picture, to_tensor
from atbsn.utils.errors import UserError


def cameras_of_pictures(
    noisy: Path, clean: Path | None, weights: str, prior: CameraPrior, max_pictures: int
) -> CameraTable:
    """The cameras of ``prior`` whose noise is nearest to that of the pictures in ``noisy``.

    Args:
        noisy: folder of noisy pictures, or one picture.
        clean: folder of their references, of the same names; None: ``weights`` denoise the pictures.
        weights: a weight file or the name of shipped weights.
        prior: the distribution that cameras are drawn from.
        max_pictures: most pictures to look at, spread evenly over the sorted names.

    Raises:
        UserError: a picture has no reference or fewer than 64 pixels a side, or all are saturated or without noise.
    """
    if clean is None:
        paths = image_paths(noisy)
        chosen = spread(len(paths), max_pictures)
        pairs = _cleaned((paths[i] for i in chosen), weights)
    else:
        images = PairedFolder(noisy, dataroot_clean=clean)
        chosen = spread(len(images), max_pictures)
        pairs = ((to_tensor(images.read(i).rgb), to_tensor(images.read_clean(i).rgb)) for i in chosen)
    with tqdm(total=len(chosen), desc="cameras", unit="picture") as bar:
        try:
            return cameras_like(pairs, prior, each=bar.update, tried=THOROUGH)
        except ValueError as error:
            raise UserError(f"{noisy}: {error}; give other pictures") from None


def _cleaned(paths: Iterable[Path], weights: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each picture, (3, H, W) in [0, 255], and what ``weights`` make of it."""
    denoiser = photo_denoiser(load(weights))
    for path in paths:
        picture = to_tensor(read_picture(path).rgb)
        yield picture, denoiser(picture[None])[0].float().cpu()
