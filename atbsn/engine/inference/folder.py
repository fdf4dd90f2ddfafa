"""Denoising whole sets of pictures into folders."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from atbsn.data.base import ImageSet
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.submission import open_submission
from atbsn.pictures import Picture, from_tensor, to_tensor, write_picture
from atbsn.pictures.formats import WRITTEN
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger, progress_bar
from atbsn.utils.prefetch import prefetch

_Writing = tuple[str, Future[None]]
"""A picture's name, and a file that is being written of it."""


def denoise_set(images: ImageSet, denoiser: Denoiser, folder: Path, description: str) -> list[str]:
    """Denoise every picture of ``images`` into ``folder``: its name, format, depth, channels and sub-folder kept.

    A format that is not written, camera RAW, becomes a TIFF of 16 bits. Decoding, computing and encoding overlap. A
    picture that cannot be read, denoised or written is reported and the others are done. A benchmark's set also gets
    its submission, in ``folder/submission``.

    Returns:
        The pictures that failed, in all processes.

    Raises:
        UserError: a picture would be written over one that is denoised, or over another's, or a submission does not
            read back as it should.
    """
    _check_targets(images, folder)
    failed: list[str] = []
    submission = open_submission(images, folder / "submission")
    numbers = range(dist.rank(), len(images), dist.world_size())
    with ThreadPoolExecutor(max_workers=2) as writers:
        written: list[_Writing] = []
        for index, picture in progress_bar(_read(images, numbers), description, total=len(numbers), unit="image"):
            name = str(images.source(index) or images.key(index))
            if isinstance(picture, UserError):
                logger.error("%s", picture)
                failed.append(name)
                continue
            output = denoiser(to_tensor(picture.rgb)[None])[0][(..., *images.window(index))]
            if not output.isfinite().all():
                logger.error("%s: the network's output is not finite; check its weights", name)
                failed.append(name)
                continue
            result = replace(picture, rgb=from_tensor(output, picture.rgb.dtype))
            target = _target(images, index, folder) or folder / f"{images.key(index)}{picture.suffix}"
            written.append((name, writers.submit(write_picture, target, result)))
            if submission is not None:
                written.append((name, writers.submit(submission.add, index, result.rgb)))
            failed += _reap(written, keep=4)
        failed += _reap(written, keep=0)
    failed = [name for part in dist.gather(list(dict.fromkeys(failed))) for name in part]
    if submission is not None and failed:
        logger.error("%s: no submission, since %d pictures are missing", folder, len(failed))
    elif submission is not None:
        submission.finish()
    return failed


def _target(images: ImageSet, index: int, folder: Path) -> Path | None:
    """Where the denoised picture of a file goes: its key in ``folder``, with a suffix that can be written.

    A key that is a file name, since another file has the same stem, keeps it: ``a.nef`` becomes ``a.nef.tif``.
    """
    key, source = images.key(index), images.source(index)
    if source is None:
        return None
    suffix = source.suffix if source.suffix.lower() in WRITTEN else ".tif"
    is_name = Path(key).name == source.name
    return folder / (key if is_name and suffix == source.suffix else f"{key}{suffix}")


def _check_targets(images: ImageSet, folder: Path) -> None:
    sources = [images.source(index) for index in range(len(images))]
    originals = {source.resolve(): source for source in sources if source is not None}
    taken: dict[Path, Path | None] = {}
    for index, source in enumerate(sources):
        target = _target(images, index, folder)
        if target is None:
            continue
        place = target.resolve()
        if place in originals:
            by = "its denoised picture" if originals[place] == source else f"the denoised picture of {source}"
            raise UserError(f"{originals[place]}: would be overwritten by {by}; give another --output")
        if place in taken:
            raise UserError(f"{target}: would be the denoised picture of {taken[place]} and of {source}; do them apart")
        taken[place] = source


def _read(images: ImageSet, numbers: range) -> Iterator[tuple[int, Picture | UserError]]:
    def read(index: int) -> tuple[int, Picture | UserError]:
        try:
            return index, images.read(index)
        except UserError as error:
            return index, error

    return prefetch(read, numbers)


def _reap(written: list[_Writing], keep: int) -> list[str]:
    """Wait for all but the ``keep`` newest files; of which pictures they could not be written."""
    failed = []
    while len(written) > keep:
        name, future = written.pop(0)
        try:
            future.result()
        except UserError as error:
            logger.error("%s", error)
            failed.append(name)
    return failed
