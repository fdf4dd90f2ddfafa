"""``atbsn denoise``: clean pictures beside noisy ones."""

import contextlib
import os
import time
from argparse import Namespace
from typing import Any

import torch

from atbsn.app.clean import clean_picture, write_clean
from atbsn.app.report import Look, report
from atbsn.app.sheet import choose_crops, cut, sheet_of
from atbsn.app.targets import Job, plan
from atbsn.archs.base import FINISHING
from atbsn.archs.weights import load
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.finish import strengths
from atbsn.engine.inference.photo import best_device, photo_denoiser
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger, share_bar


def main(arguments: Namespace) -> int:
    todo = plan(arguments.inputs, arguments.output, arguments.overwrite)
    if todo.found.skipped or len(todo.jobs) > 1:
        logger.info("%s", todo.found.summary())
    if not todo.jobs:
        raise UserError("nothing is left to be done; name pictures, or folders with some")
    settings: dict[str, Any] = {
        name: getattr(arguments, name) for name in (*FINISHING, "k", "margin") if getattr(arguments, name) is not None
    }
    net = load(arguments.weights).to(device(arguments.device))
    denoiser = photo_denoiser(net, tile=arguments.tile, **settings)
    failed = todo.failed
    with share_bar("denoise", len(todo.jobs)) as show:
        for number, job in enumerate(todo.jobs):
            try:
                _denoise(denoiser, job, arguments.compare, lambda share, done=number: show(done + share))
            except UserError as error:
                logger.error("%s", error)
                failed += 1
            show(number + 1)
    if failed and len(todo.jobs) > 1:
        logger.error("%d could not be done; see above", failed)
    return 2 if failed else 0


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


def _denoise(denoiser: Denoiser, job: Job, compare: bool, on_progress: Any) -> None:
    """Clean one picture, write it, and say in a line how it went."""
    start = time.perf_counter()
    noisy = read_picture(job.source)
    before = Look.at(noisy.rgb)
    places = list(choose_crops(noisy.rgb).values()) if compare else []
    crops = cut(noisy.rgb, places)
    clean = clean_picture(denoiser, noisy, job.source.name, on_progress, in_place=True)
    found = report(before, clean.rgb)
    if compare:
        target = job.target.with_name(f"{job.target.stem.removesuffix('_clean')}_compare.png")
        write_picture(target, Picture(sheet_of({"before": crops, "after": cut(clean.rgb, places)})))
    write_clean(denoiser, job.source, clean, job.target)
    _keep_date(job)
    logger.info("%s: %s, %.1f s -> %s", job.source, found, time.perf_counter() - start, job.target)
    for warning in found.warnings(strengths(denoiser.settings)[0]):
        logger.warning("%s: %s", job.source, warning)


def _keep_date(job: Job) -> None:
    """The clean picture was taken when the noisy one was: it is sorted there."""
    with contextlib.suppress(OSError):
        facts = job.source.stat()
        os.utime(job.target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
