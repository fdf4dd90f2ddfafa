"""The folder of a run. One training at a time may use it, and the folder of an earlier run is archived."""

import contextlib
import shlex
import sys
from datetime import datetime
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from atbsn.engine.provenance import commit, versions
from atbsn.options import Options
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.files import cannot_write, remove_temporary_files, write_text
from atbsn.utils.log import logger, set_up_log

_PATIENCE = 10
"""Seconds to wait for a lock. Chosen by hand: loader processes of a killed training live a little longer than it."""


class RunFolders:
    """The folders that a training writes to, below ``path.root``.

    Args:
        options: checked options of the run.
    """

    def __init__(self, options: Options) -> None:
        root = Path(options.path.root)
        self.folder = root / "experiments" / options.name
        self.tensorboard = root / "tb_logger" / options.name
        self.models = self.folder / "models"
        self.states = self.folder / "training_states"
        self.visualization = self.folder / "visualization"


class Experiment(RunFolders):
    """The folders of one training on disk, ``experiments/<name>/`` and ``tb_logger/<name>/``, and the lock on its name.

    Args:
        options: checked options of the run.
        resumed: the training state to continue from. If it is in this folder, the folder is continued; otherwise an
            existing folder is archived.

    Raises:
        UserError: another training of this name is running, or the folder cannot be written.
    """

    def __init__(self, options: Options, resumed: Path | None) -> None:
        super().__init__(options)
        # The system frees this lock when the process ends, however it ends, so no stale lock can remain.
        self._lock = FileLock(self.folder.parent / f".{self.folder.name}.lock")
        continued = resumed is not None and resumed.resolve().parent == self.states.resolve()
        dist.on_main(lambda: self._open(options, continued))

    def __enter__(self) -> "Experiment":
        return self

    def __exit__(self, *exception: object) -> None:
        """Release the name for other trainings."""
        self._give_back()

    def _open(self, options: Options, continued: bool) -> None:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=_PATIENCE)
            if continued:
                remove_temporary_files(self.folder)
            else:
                self._archive()
            for folder in (self.models, self.states):
                folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / "options.yml", describe_run() + dump_options(options))
            set_up_log(self.folder / f"train_{datetime.now():%Y%m%d_%H%M%S}.log")
        except Timeout:
            raise UserError(
                f"{self.folder}: another training of the name '{options.name}' is running; wait for it, or choose "
                "another name (--set name=...)"
            ) from None
        except OSError as error:
            self._give_back()
            raise cannot_write(self.folder, error) from error

    def _give_back(self) -> None:
        """Release the lock and remove its file. A process that waits for it makes a new one."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):  # Windows cannot remove a file that another process has open
                Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def _archive(self) -> None:
        stamp = f"_archived_{datetime.now():%Y%m%d_%H%M%S_%f}"
        for folder in (self.folder, self.tensorboard):
            if folder.exists():
                target = folder.with_name(folder.name + stamp)
                folder.rename(target)
                logger.info("archived %s as %s", folder, target.name)


def dump_options(options: Options) -> str:
    """The options as YAML that can be trained from again."""
    return yaml.safe_dump(options.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=110)


def describe_run() -> str:
    """Command, commit and versions, as YAML comments."""
    facts = {
        "command": shlex.join(sys.orig_argv),
        "commit": commit(),
        "versions": versions(),
        "started": f"{datetime.now():%Y-%m-%d %H:%M:%S}, {dist.world_size()} process(es)",
    }
    return "".join(f"# {key}: {value}\n" for key, value in facts.items())
