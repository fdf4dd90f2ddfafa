"""``atbsn watch``: denoise the pictures that arrive in a folder, until Ctrl-C."""

import signal
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from atbsn.app.before_after import BeforeAfterObserver
from atbsn.app.denoising import denoiser_of, reader_of, say, weights_of
from atbsn.engine.inference.finish import strengths
from atbsn.engine.inference.pipeline.arrivals import Arrivals
from atbsn.engine.inference.pipeline.mirrored import Mirrored
from atbsn.engine.inference.pipeline.progress import Progress
from atbsn.engine.inference.pipeline.record import open_record
from atbsn.engine.inference.pipeline.run import TaskResult, run
from atbsn.engine.inference.pipeline.shards import Shard
from atbsn.pictures import read_picture
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> int:
    read = reader_of(arguments)
    folder, output = _folders(arguments)
    found = Mirrored([folder], output, Shard(), arguments.raw)
    denoiser = denoiser_of(arguments)
    strength = strengths(denoiser.settings)[0]
    reading: dict[str, Any] = {}
    if read is not read_picture:
        reading = {"raw": arguments.raw, "white": arguments.white, "page": arguments.page}
    done = skipped = failed = 0
    with closing(open_record(output, denoiser, weights_of(arguments), reading, Shard(), resume=True)) as record:
        arrivals = Arrivals(found, lambda name: arguments.overwrite or record.has_name(name))
        if arguments.only_new:
            logger.info("%s: %d pictures that are there already are left alone", folder, arrivals.leave())
        logger.info("%s is watched, and its clean pictures go to %s; Ctrl-C ends it", folder, output)
        with suppress(KeyboardInterrupt), _ended_like_ctrl_c():
            for batch in arrivals.batches(arguments.every):
                with closing(Progress("denoise", len(batch))) as progress:

                    def tell(result: TaskResult, progress: Progress = progress) -> None:
                        nonlocal done, skipped, failed
                        progress.tell(result)
                        is_done = result.reason is None and not result.skipped
                        is_failure = arrivals.tell(result)
                        if is_done or is_failure:
                            say(result, strength)
                        done, skipped, failed = done + is_done, skipped + result.skipped, failed + is_failure

                    observer = BeforeAfterObserver()
                    run(batch, denoiser, tell, read=read, observer=observer, record=record, on_progress=progress.part)
    before = f", {skipped} were done before" if skipped else ""
    wrong = f", {failed} could not be done; see above" if failed else ""
    logger.info("%s: %d pictures done%s%s", output, done, before, wrong)
    return 2 if failed else 0


def _folders(arguments: Namespace) -> tuple[Path, Path]:
    """The folder that is watched, and the folder of the clean pictures.

    Raises:
        UserError: there is no such folder, or none can be beside it.
    """
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; make it first, or name the one that pictures arrive in")
    if arguments.output is not None:
        return folder, Path(arguments.output)
    place = folder.resolve()
    if not place.name:
        raise UserError(f"{folder}: nothing can lie beside it; say with --output where the clean pictures go")
    return folder, place.with_name(f"{place.name}_clean")


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Context in which SIGTERM, which stops services, and Windows' Ctrl-Break raise KeyboardInterrupt like Ctrl-C."""
    names = [name for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    previous = {name: signal.signal(getattr(signal, name), signal.default_int_handler) for name in names}
    try:
        yield
    finally:
        for name, handler in previous.items():
            signal.signal(getattr(signal, name), handler)
