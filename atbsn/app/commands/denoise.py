"""``atbsn denoise``: denoise pictures; by default the clean ones are written beside the noisy ones."""

from argparse import Namespace
from contextlib import closing
from pathlib import Path
from typing import Any

from atbsn.app.before_after import BeforeAfter, BeforeAfterObserver
from atbsn.app.denoising import denoiser_of, reader_of, say
from atbsn.app.sheet import choose_crops, cut, sheet_of
from atbsn.engine.inference.finish import strengths
from atbsn.engine.inference.pipeline.masks import Masks
from atbsn.engine.inference.pipeline.plan import beside
from atbsn.engine.inference.pipeline.progress import Progress
from atbsn.engine.inference.pipeline.run import TaskResult, run
from atbsn.engine.inference.pipeline.task import Task
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> int:
    read = reader_of(arguments)
    if arguments.raw and arguments.mask is not None:
        raise UserError("--mask: raw data are no picture yet; leave it out with --raw, and mask what you develop")
    if arguments.raw and arguments.compare:
        raise UserError("--compare: raw data are no picture yet; leave it out with --raw, and compare what you develop")
    masks = None if arguments.mask is None else Masks(Path(arguments.mask))
    todo = beside(arguments.inputs, arguments.output, arguments.overwrite, arguments.raw, masks)
    if todo.found.skipped or len(todo.tasks) > 1:
        logger.info("%s", todo.found.summary())
    if not todo.tasks and not todo.done and not todo.refused:
        raise UserError("there is no picture to denoise; name pictures, or folders with some")
    if not todo.tasks:
        logger.info("nothing is left to do")
        return 2 if todo.refused else 0
    denoiser = denoiser_of(arguments)
    strength = strengths(denoiser.settings)[0]
    with closing(Progress("denoise", len(todo.tasks))) as progress:

        def tell(result: TaskResult) -> None:
            progress.tell(result)
            say(result, strength)

        observer = _Sheets() if arguments.compare else BeforeAfterObserver()
        run(todo.tasks, denoiser, tell, read=read, observer=observer, on_progress=progress.part)
    failed = todo.refused + progress.failed
    if failed and len(todo.tasks) > 1:
        logger.error("%d could not be done; see above", failed)
    return 2 if failed else 0


class _Sheets(BeforeAfterObserver):
    """Also writes a sheet with crops before | after beside each clean picture."""

    def before(self, task: Task, noisy: Picture) -> Any:
        places = list(choose_crops(noisy.rgb).values())
        return super().before(task, noisy), places, cut(noisy.rgb, places)

    def after(self, task: Task, seen: Any, clean: Picture) -> BeforeAfter:
        look, places, crops = seen
        target = task.target.with_name(f"{task.target.stem.removesuffix('_clean')}_compare.png")
        write_picture(target, Picture(sheet_of({"before": crops, "after": cut(clean.rgb, places)})))
        return super().after(task, look, clean)
