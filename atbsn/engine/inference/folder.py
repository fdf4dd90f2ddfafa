"""Denoising whole sets of pictures into folders."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from atbsn.data.base import ImageSet
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.submission import open_submission
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.image import Picture, from_tensor, to_tensor, write_picture
from atbsn.utils.log import logger, progress_bar
from atbsn.utils.prefetch import prefetch


def denoise_set(images: ImageSet, denoiser: Denoiser, folder: Path, description: str) -> int:
    """Denoise every picture of ``images`` into ``folder``: its name, format, depth, channels and sub-folder kept.

    Decoding, computing and encoding overlap. A picture that cannot be read, denoised or written is reported and the
    others are done. A benchmark's set also gets its submission, in ``folder/submission``.

    Returns:
        How many pictures failed, in all processes.

    Raises:
        UserError: a picture would be written over the one it comes from, or a submission does not read back as it
            should.
    """
    for index in range(len(images)):
        source = images.source(index)
        if source is not None and _target(images, index, source.suffix, folder).resolve() == source.resolve():
            raise UserError(f"{source}: would be overwritten by its denoised picture; give another --output")
    failures = 0
    submission = open_submission(images, folder / "submission")
    numbers = range(dist.rank(), len(images), dist.world_size())
    with ThreadPoolExecutor(max_workers=2) as writers:
        written: list[Future[None]] = []
        for index, picture in progress_bar(_read(images, numbers), description, total=len(numbers), unit="image"):
            if isinstance(picture, UserError):
                logger.error("%s", picture)
                failures += 1
                continue
            output = denoiser(to_tensor(picture.rgb)[None], images.key(index))[0][(..., *images.window(index))]
            if not output.isfinite().all():
                logger.error("%s: the network's output is not finite; check its weights", images.key(index))
                failures += 1
                continue
            result = replace(picture, rgb=from_tensor(output, picture.rgb.dtype))
            written.append(writers.submit(write_picture, _target(images, index, picture.suffix, folder), result))
            if submission is not None:
                written.append(writers.submit(submission.add, index, result.rgb))
            failures += _reap(written, keep=4)
        failures += _reap(written, keep=0)
    failures = sum(dist.gather(failures))
    if submission is not None and failures:
        logger.error("%s: no submission, since %d pictures are missing", folder, failures)
    elif submission is not None:
        submission.finish()
    return failures


def _target(images: ImageSet, index: int, suffix: str, folder: Path) -> Path:
    """Where a denoised picture goes: ``folder/<key><suffix>``, unless the key is a file name with its suffix."""
    key, source = images.key(index), images.source(index)
    return folder / (key if source is not None and Path(key).name == source.name else f"{key}{suffix}")


def _read(images: ImageSet, numbers: range) -> Iterator[tuple[int, Picture | UserError]]:
    def read(index: int) -> tuple[int, Picture | UserError]:
        try:
            return index, images.read(index)
        except UserError as error:
            return index, error

    return prefetch(read, numbers)


def _reap(written: list[Future[None]], keep: int) -> int:
    """Wait for all but the ``keep`` newest files; how many of them failed."""
    failures = 0
    while len(written) > keep:
        try:
            written.pop(0).result()
        except UserError as error:
            logger.error("%s", error)
            failures += 1
    return failures
