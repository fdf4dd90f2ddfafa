"""Denoise one picture. The commands and the page use this, so equal settings give equal files."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.samples import OnProgress, PictureInProgress
from atbsn.pictures import Picture
from atbsn.utils.files import write_atomically


def clean_picture(
    denoiser: Denoiser,
    picture: Picture,
    name: str,
    on_progress: OnProgress | None = None,
    in_place: bool = False,
) -> Picture:
    """Denoise ``picture``. Size, depth, transparency and metadata are kept.

    Args:
        name: the picture's name in messages.
        on_progress: called after every batch of tiles.
        in_place: overwrite the samples of ``picture``, which saves the memory of a second picture.

    Raises:
        UserError: the output is not finite.
    """
    return begin_clean(denoiser, picture, name, on_progress, in_place)()


def begin_clean(
    denoiser: Denoiser,
    picture: Picture,
    name: str,
    on_progress: OnProgress | None = None,
    in_place: bool = False,
) -> Callable[[], Picture]:
    """Start to denoise ``picture``. The returned function waits for the result and returns it, in any thread.

    A GPU computes in the background, so the next picture can be started before this one is ready. On other devices all
    is computed before this returns. The arguments are those of ``clean_picture``.
    """
    if denoiser.leaves_pictures_alone:
        return lambda: picture
    begun = PictureInProgress(denoiser, picture.rgb, name, on_progress=on_progress, in_place=in_place)
    if not begun.under_way:
        begun.result()
    return lambda: replace(picture, rgb=begun.result())


def copy_file(source: Path, target: Path, aside: Path | None = None) -> None:
    """Copy ``source`` to ``target``, byte for byte. After an error there is no ``target``.

    Args:
        aside: folder for the temporary file that is renamed at the end.

    Raises:
        UserError: the copy cannot be written.
    """
    with source.open("rb") as file:
        write_atomically(target, lambda copy: shutil.copyfileobj(file, copy), aside)


def keep_date(source: Path, target: Path) -> None:
    """Give ``target`` the date of ``source``: both show the same moment, and viewers sort by date."""
    with suppress(OSError):
        facts = source.stat()
        os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
