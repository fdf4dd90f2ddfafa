"""One picture from noisy to clean, by every door the same: equal settings give equal files."""

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
    """``picture`` without its noise: size, depth, transparency and metadata are kept.

    Args:
        name: what messages call it.
        on_progress: called after every tile.
        in_place: write over the samples of ``picture``, which saves the memory of a second one.

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
    """``clean_picture``, which is what the result gives, in any thread: a GPU may still be computing.

    So the next picture is given to it before this one is waited for. Elsewhere all is done when this returns.
    """
    if denoiser.leaves_pictures_alone:
        return lambda: picture
    begun = PictureInProgress(denoiser, picture.rgb, name, on_progress=on_progress, in_place=in_place)
    if not begun.under_way:
        begun.result()
    return lambda: replace(picture, rgb=begun.result())


def copy_file(source: Path, target: Path, aside: Path | None = None) -> None:
    """``target`` becomes ``source``, byte for byte, or is not there.

    Args:
        aside: folder to write it in before it is renamed.

    Raises:
        UserError: it cannot be written.
    """
    with source.open("rb") as file:
        write_atomically(target, lambda copy: shutil.copyfileobj(file, copy), aside)


def keep_date(source: Path, target: Path) -> None:
    """Give ``target`` the date of ``source``: both show the same moment, and viewers sort by it."""
    with suppress(OSError):
        facts = source.stat()
        os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
