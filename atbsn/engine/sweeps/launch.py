"""Start a point: as a process on this machine, or as a job of Slurm."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import torch

from atbsn.utils.errors import UserError

_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of Linux's prctl(2)."""


class StartedPoint(Protocol):
    """A started command."""

    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""

    def stop(self) -> None:
        """Ask it to save and to end."""


class Launcher(Protocol):
    """Starts commands, at most ``slots`` at a time."""

    slots: int
    """Most commands at a time."""
    cores: int
    """Number of cores of one command."""

    def start(self, command: list[str], log: Path, slot: int, earlier: str | None) -> tuple[StartedPoint, str | None]:
        """Start ``command``, and write its output to ``log``.

        Args:
            command: the command line.
            log: file of its output.
            slot: a number below ``slots`` that no other running command has.
            earlier: handle that an earlier run of the sweep got for this point. If that job still runs, it is not
                started again.

        Returns:
            The started point, and a handle by which a later run of the sweep finds it; None if that is not possible.
        """


class LocalLauncher:
    """Starts processes on this machine, which share its cores and GPUs.

    On Linux, processes are asked to stop when the sweep ends, however it ends.

    Args:
        jobs: most processes at a time. Each gets ``cores // jobs`` threads and, if there are several GPUs, one of them.

    Raises:
        UserError: more jobs than cores.
    """

    def __init__(self, jobs: int) -> None:
        total = available_cores()
        if jobs > total:
            raise UserError(f"--jobs {jobs}: more than the {total} cores there are; use at most {total}")
        self.slots, self.cores = jobs, total // jobs
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = given.split(",") if given else [str(number) for number in range(torch.cuda.device_count())]
        self._gpus = names if jobs > 1 and torch.cuda.device_count() else []
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def start(self, command: list[str], log: Path, slot: int, earlier: str | None) -> tuple[StartedPoint, str | None]:
        del earlier  # processes do not outlive a sweep
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.cores)}
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                start_new_session=True, preexec_fn=self._end_with_parent if self._libc else None,
            )  # fmt: skip
        return _Process(process), None

    def _end_with_parent(self) -> None:
        assert self._libc is not None
        self._libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def status(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        self._process.terminate()


def available_cores() -> int:
    """Number of cores that this process may use: ``OMP_NUM_THREADS`` if it is set."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told):
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SlurmLauncher:
    """Submits jobs to Slurm, one for each point, through submitit (the extra ``[slurm]``).

    A job that reaches its time limit saves its state and is queued again. Jobs of Slurm outlive this process: a sweep
    that is started again finds them.

    Args:
        folder: folder of submitit's files, visible from all nodes.
        jobs: most jobs that are queued or running at a time.
        settings: arguments of submitit's ``update_parameters``: ``slurm_partition``, ``timeout_min``,
            ``gpus_per_node``, ...
        cluster: ``slurm``; ``local`` for tests.

    Raises:
        UserError: submitit is missing or refuses ``settings``.
    """

    def __init__(self, folder: Path, jobs: int, settings: dict[str, Any], cluster: str = "slurm") -> None:
        try:
            import submitit
        except ImportError:
            raise UserError("--slurm: needs submitit; pip install submitit, or the extra [slurm]") from None
        self.slots, self.cores = jobs, int(settings.get("cpus_per_task", 1))
        self._folder = folder.absolute()
        repository = Path(__file__).resolve().parents[3]
        paths = [str(repository), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # the job's Python has to find this package
        try:
            self._executor = submitit.AutoExecutor(folder=self._folder, cluster=cluster)
            self._executor.update_parameters(**{"cpus_per_task": self.cores, **settings})
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise UserError(f"--slurm: {error}; see submitit's update_parameters") from None
        self._job_class = type(self._executor._executor).job_class

    def start(self, command: list[str], log: Path, slot: int, earlier: str | None) -> tuple[StartedPoint, str | None]:
        del slot
        from atbsn.engine.sweeps.slurm_command import SlurmCommand

        if earlier is not None:
            job = self._job_class(folder=self._folder, job_id=earlier)
            if job.state in ("PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "COMPLETING"):
                return _SlurmPoint(job), earlier
        log.parent.mkdir(parents=True, exist_ok=True)
        job = self._executor.submit(SlurmCommand(command, str(log.absolute()), str(Path.cwd()), self.cores))
        return _SlurmPoint(job), str(job.job_id)


class _SlurmPoint:
    def __init__(self, job: Any) -> None:
        self._job = job

    def status(self) -> int | None:
        if not self._job.done():
            return None
        error = self._job.exception()
        return 1 if error is not None else int(self._job.result())

    def stop(self) -> None:
        self._job.cancel(check=False)
