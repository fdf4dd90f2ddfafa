"""``atbsn denoise``: clean pictures beside noisy ones."""

from argparse import Namespace
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from atbsn.app.arguments import WEIGHTS
from atbsn.app.before_after import BeforeAfter, BeforeAfterObserver
from atbsn.app.sheet import choose_crops, cut, sheet_of
from atbsn.archs.base import FINISHING, Network
from atbsn.archs.weights import load
from atbsn.engine.inference.finish import strengths
from atbsn.engine.inference.photo import best_device, photo_denoiser
from atbsn.engine.inference.pipeline.masks import Masks
from atbsn.engine.inference.pipeline.plan import beside
from atbsn.engine.inference.pipeline.progress import Progress
from atbsn.engine.inference.pipeline.run import Result, run
from atbsn.engine.inference.pipeline.steps import Read
from atbsn.engine.inference.pipeline.task import Task
from atbsn.pictures import Picture, read_raw, reader, write_picture
from atbsn.pictures.mosaic import CHANNELS
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> int:
    read = _reader(arguments)
    masks = None if arguments.mask is None else Masks(Path(arguments.mask))
    todo = beside(arguments.inputs, arguments.output, arguments.overwrite, arguments.raw, masks)
    if todo.found.skipped or len(todo.tasks) > 1:
        logger.info("%s", todo.found.summary())
    if not todo.tasks and not todo.done and not todo.refused:
        raise UserError("there is no picture to denoise; name pictures, or folders with some")
    if not todo.tasks:
        logger.info("nothing is left to do")
        return 2 if todo.refused else 0
    settings: dict[str, Any] = {
        name: getattr(arguments, name) for name in (*FINISHING, "k", "margin") if getattr(arguments, name) is not None
    }
    net = _network(arguments.weights, arguments.raw).to(device(arguments.device))
    denoiser = photo_denoiser(net, tile=arguments.tile, **settings)
    strength = strengths(denoiser.settings)[0]
    with closing(Progress("denoise", len(todo.tasks))) as progress:

        def tell(result: Result) -> None:
            progress.tell(result)
            _say(result, strength)

        observer = _Sheets() if arguments.compare else BeforeAfterObserver()
        run(todo.tasks, denoiser, tell, read=read, observer=observer, on_progress=progress.part)
    failed = todo.refused + progress.failed
    if failed and len(todo.tasks) > 1:
        logger.error("%d could not be done; see above", failed)
    return 2 if failed else 0


def _reader(arguments: Namespace) -> Read:
    """What reads a file.

    Raises:
        UserError: settings that do not suit one another.
    """
    if not arguments.raw:
        return reader(arguments.white, arguments.page)
    if arguments.mask is not None:
        raise UserError("--mask: raw data are no picture yet; leave it out with --raw, and mask what you develop")
    if arguments.white != "auto" or arguments.page is not None:
        raise UserError("--white and --page: a raw file says its white, and has one picture; leave them out with --raw")
    if arguments.compare:
        raise UserError("--compare: raw data are no picture yet; leave it out with --raw, and compare what you develop")
    return read_raw


def _network(weights: str | None, raw: bool) -> Network:
    """The network of ``--weights``.

    Raises:
        UserError: there is none, or it is not for what it is to denoise.
    """
    if raw and weights is None:
        raise UserError(
            "--raw: no weights for raw files come with atbsn; train some on yours (docs/raw.md) and name them with "
            "--weights, or leave --raw out: then raw files are developed first"
        )
    name = weights or WEIGHTS
    net = load(name)
    if raw and net.channels != CHANNELS:
        raise UserError(
            f"--weights {name}: a network for {net.channels} channels, but raw data have {CHANNELS}; name "
            "weights that were trained on raw files (docs/raw.md)"
        )
    if not raw and net.channels == CHANNELS:
        raise UserError(f"--weights {name}: a network for raw data; give --raw too, or name weights for pictures")
    return net


def device(name: str) -> torch.device:
    """The device of ``--device``.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return best_device()
    try:
        found = torch.device(name)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError):  # torch without CUDA asserts
        raise UserError(f"--device {name}: there is no such device here; use cpu or auto") from None
    return found


class _Sheets(BeforeAfterObserver):
    """Also shows before | after on a sheet beside each clean picture."""

    def before(self, task: Task, noisy: Picture) -> Any:
        places = list(choose_crops(noisy.rgb).values())
        return super().before(task, noisy), places, cut(noisy.rgb, places)

    def after(self, task: Task, seen: Any, clean: Picture) -> BeforeAfter:
        look, places, crops = seen
        target = task.target.with_name(f"{task.target.stem.removesuffix('_clean')}_compare.png")
        write_picture(target, Picture(sheet_of({"before": crops, "after": cut(clean.rgb, places)})))
        return super().after(task, look, clean)


def _say(result: Result, strength: float) -> None:
    """Report in one line how it went."""
    label = result.task.label
    if result.reason is not None:
        logger.error("%s: %s", label, result.reason)
        return
    assert isinstance(result.task, Task), "what a planner refused has a reason"
    found: BeforeAfter = result.seen
    logger.info("%s: %s, %.1f s -> %s", label, found, result.seconds, result.task.target)
    # What is left in on purpose, under black, is no fault.
    for warning in found.warnings(strength if result.task.mask is None else 0.0):
        logger.warning("%s: %s", label, warning)
