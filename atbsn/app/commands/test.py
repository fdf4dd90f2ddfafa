"""``atbsn test``: denoise data sets, folders or files with the settings of an option file."""

from argparse import Namespace
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from atbsn.data.base import ImageSet
from atbsn.data.folder import NoisyFolder
from atbsn.engine.build import build_sets, build_test_denoiser, results_folder
from atbsn.engine.inference.pipeline.mirrored import Mirrored
from atbsn.engine.inference.pipeline.plan import of_set, output_file, single
from atbsn.engine.inference.pipeline.progress import Progress
from atbsn.engine.inference.pipeline.record import Record, open_record
from atbsn.engine.inference.pipeline.run import TaskResult, run
from atbsn.engine.inference.pipeline.shards import Shard, own_shard
from atbsn.engine.inference.pipeline.steps import Observer
from atbsn.engine.inference.pipeline.task import Refused, Task
from atbsn.engine.inference.submission import Submission, open_submission
from atbsn.options import Options, load_options
from atbsn.pictures import Picture, read_picture, reader
from atbsn.pictures.formats import KINDS
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> int:
    options = load_options(arguments.opt, arguments.set)
    roots = [Path(root) for root in arguments.input or ()]
    is_lmdb = len(roots) == 1 and (roots[0] / "data.mdb").is_file()
    target = output_file(roots, arguments.output) if roots and not is_lmdb else None
    if target is not None and (arguments.resume or arguments.shard):
        raise UserError("--resume and --shard go with a folder of results; name one with --output, or leave them out")
    reading = {"white": arguments.white, "page": arguments.page}
    if not roots and reader(**reading) is not read_picture:
        raise UserError("--white and --page go with --input; a data set has its own `white`, or leave them out")
    device = dist.start(arguments.launcher, options.num_gpu, options.dist_timeout)
    sets: dict[str, ImageSet] = {}
    if is_lmdb:
        sets = {roots[0].stem: NoisyFolder(roots[0], "lmdb")}
    elif not roots:
        sets = build_sets(options, "test")
    source = " + ".join(arguments.opt)
    if not sets and not roots:
        raise UserError(f"{source}: datasets: no entry begins with 'test'; add one, or give --input")
    if options.path.pretrain_network is None:
        raise UserError(f"{source}: path.pretrain_network: missing; name the weights to denoise with")
    # The tasks of a Slurm array divide folders only. Other jobs in an array, such as sweeps, denoise whole sets.
    shard = own_shard(arguments.shard, by_array=not sets)
    for images in sets.values():
        if images.submission is not None and (arguments.resume or arguments.shard):
            raise UserError("--resume and --shard: a submission is made of all pictures at once; leave them out")
    session = _TestRun(options, device, shard, arguments.resume or dist.restarted(), reading)
    if target is not None:
        return session.file(single(roots[0], target))
    if not sets:
        return session.folders(roots, Path(arguments.output or results_folder(options) / roots[0].stem))
    failed = 0
    for name, images in sets.items():
        folder = results_folder(options) / name
        if arguments.output:
            folder = Path(arguments.output) / (name if len(sets) > 1 else "")
        failed += session.set(name, images, folder)
    return 2 if failed else 0


class _TestRun:
    """One run of ``atbsn test``: a denoiser, and the part of the pictures that this process denoises.

    Args:
        options: checked options.
        device: where it computes.
        shard: the part of the pictures.
        resume: leave out pictures that are done.
        reading: the settings of ``pictures.reader``.
    """

    def __init__(
        self, options: Options, device: torch.device, shard: Shard, resume: bool, reading: dict[str, Any]
    ) -> None:
        self.reading = reading
        self.weights = options.path.pretrain_network
        self.denoiser = build_test_denoiser(options, device, "test")
        self.shard, self.resume = shard, resume
        self.patient = dist.patient_group()

    def file(self, task: Task) -> int:
        """Denoise one picture to the file of ``task``, in one of the processes; returns the exit status."""
        failed = 0
        if self.shard.holds(task.name):
            with closing(Progress(f"denoise {task.name}", 1)) as progress:
                self._run([task], progress, None)
            failed = progress.failed
            if not failed:
                logger.info("%s: denoised, in %s", task.label, task.target)
        return 2 if any(dist.gather(failed, self.patient)) else 0

    def folders(self, roots: list[Path], folder: Path) -> int:
        """Denoise files and folders to the same paths in ``folder``; returns the exit status.

        Raises:
            UserError: there is no picture.
        """
        found = Mirrored(roots, folder, self.shard)
        record = self._record(folder, self.resume, by_name=True)
        total = found.names if any(root.is_dir() for root in roots) else len(roots)
        with closing(record), closing(Progress(f"denoise {roots[0].name}", total)) as progress:
            self._run(found, progress, record)
        if not found.met:
            raise UserError(f"{roots[0]}: no picture in this folder or below; it needs {KINDS} files")
        failed = self._report(progress, record)
        for reason, number in found.passed_over.most_common():
            if number:
                logger.info("passed over: %s, %s", f"{number:,}", reason)
        return 2 if failed else 0

    def set(self, name: str, images: ImageSet, folder: Path) -> int:
        """Denoise a data set to ``folder``, and write the submission of a benchmark to ``folder/submission``.

        Returns:
            The number of pictures that failed.

        Raises:
            UserError: pictures would overwrite one another, or a submission does not read back as it was written.
        """
        tasks = self.shard.part_of(of_set(images, folder))
        submission = open_submission(images, folder / "submission")
        observer = None if submission is None else _Submitter(images, submission)
        record = self._record(folder, self.resume and submission is None)
        with closing(record), closing(Progress(f"denoise {name}", len(tasks))) as progress:
            self._run(tasks, progress, record, observer)
        failed = self._report(progress, record)
        if submission is not None and failed:
            logger.error("%s: no submission, since %d pictures are missing", folder, failed)
        elif submission is not None:
            submission.finish()
        return failed

    def _run(
        self,
        tasks: Iterable[Task | Refused],
        progress: Progress,
        record: Record | None,
        observer: Observer | None = None,
    ) -> None:
        def tell(result: TaskResult) -> None:
            progress.tell(result)
            if result.reason is not None:
                logger.error("%s: %s", result.task.label, result.reason)

        part = progress.part if progress.in_parts else None
        read = reader(**self.reading)
        run(tasks, self.denoiser, tell, read=read, observer=observer, record=record, on_progress=part)

    def _record(self, folder: Path, resume: bool, by_name: bool = False) -> Record:
        reading = {} if reader(**self.reading) is read_picture else self.reading
        return open_record(folder, self.denoiser, self.weights, reading, self.shard, resume, by_name)

    def _report(self, progress: Progress, record: Record) -> int:
        """Log the results of all processes together; returns the number of pictures that failed."""
        told = dist.gather((progress.done, progress.skipped, progress.failed), self.patient)
        done, skipped, failed = (sum(values) for values in zip(*told, strict=True))
        before = f", {skipped:,} were done before" if skipped else ""
        nothing = "" if done or failed else "; nothing is left to do"
        logger.info("%s: %s pictures done%s%s", record.folder, f"{done:,}", before, nothing)
        if record.summary():
            logger.error("%s", record.summary())
        return int(failed)


class _Submitter(Observer):
    """Passes the clean pictures of a set to its submission."""

    def __init__(self, images: ImageSet, submission: Submission) -> None:
        self._numbers = {images.key(number): number for number in range(len(images))}
        self._submission = submission

    def after(self, task: Task, seen: Any, clean: Picture) -> Any:
        self._submission.add(self._numbers[task.name], clean.rgb)
        return seen
