"""One picture from noisy to clean, the same for the command and the page: equal settings give equal files."""

from dataclasses import replace
from pathlib import Path

from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.samples import OnProgress, denoise_samples
from atbsn.pictures import Picture, write_picture
from atbsn.utils.files import write_atomically


def clean_picture(
    denoiser: Denoiser,
    picture: Picture,
    key: str,
    on_progress: OnProgress | None = None,
    in_place: bool = False,
) -> Picture:
    """``picture`` without its noise: size, depth, transparency and metadata are kept.

    Args:
        key: the name of its file, for messages.
        on_progress: called after every tile.
        in_place: write over the samples of ``picture``, which saves the memory of a second one.

    Raises:
        UserError: the output is not finite.
    """
    if denoiser.leaves_pictures_alone:
        return picture

    rgb = denoise_samples(denoiser, picture.rgb, key, on_progress=on_progress, in_place=in_place)
    return replace(picture, rgb=rgb)


def write_clean(denoiser: Denoiser, source: Path, clean: Picture, target: Path) -> None:
    """Write ``clean``, what ``denoiser`` made of ``source``, to ``target``.

    Where it takes nothing off, and the format stays, that is the file itself: a JPEG is not compressed once more.
    """
    if denoiser.leaves_pictures_alone and source.suffix.lower() == target.suffix.lower():
        write_atomically(target, lambda file: file.write(source.read_bytes()))
    else:
        write_picture(target, clean)


def clean_name(name: str, picture: Picture) -> str:
    """What the clean file beside ``name`` is called: ``photo.jpg`` gives ``photo_clean.jpg``."""
    return f"{Path(name).stem}_clean{picture.suffix}"
