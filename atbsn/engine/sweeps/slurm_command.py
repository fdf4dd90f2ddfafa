"""A command as a job of Slurm. It is asked to save when the time of the job is over."""

import os
import signal
import subprocess
from typing import Any


class SlurmCommand:
    """``SlurmCommand(...)()`` runs ``command`` in ``folder`` with its output to ``log``; returns its exit status."""

    def __init__(self, command: list[str], log: str, folder: str, cores: int) -> None:
        self.command, self.log, self.folder, self.cores = command, log, folder, cores
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.cores)}
        with open(self.log, "ab") as output:  # noqa: PTH123 (a plain string travels between Python versions)
            process = self._process = subprocess.Popen(
                self.command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.folder,
                env=environment,
            )  # fmt: skip
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            return process.wait()

    def checkpoint(self) -> Any:
        """Called by submitit when the time is over: stop the command, which saves, and queue it again; it resumes."""
        import submitit

        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        return submitit.helpers.DelayedSubmission(SlurmCommand(self.command, self.log, self.folder, self.cores))
