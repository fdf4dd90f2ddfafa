"""Programs that show the numbers and pictures of a training: TensorBoard, Weights & Biases."""

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atbsn.utils.errors import UserError
from atbsn.utils.files import cannot_write, write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Plain = bool | int | float | str
"""The values of options that trackers accept."""


class Tracker(ABC):
    """A program that shows a run. Only rank 0 calls it, and calls ``open`` first."""

    @abstractmethod
    def open(self, first_iter: int) -> None:
        """Begin a run, or continue it with ``first_iter``; raises ``UserError`` if that is refused."""

    @abstractmethod
    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Show numbers, by name."""

    @abstractmethod
    def picture(self, iteration: int, name: str, picture: np.ndarray) -> None:
        """Show a picture, (H, W, 3) uint8 RGB."""

    @abstractmethod
    def flush(self) -> None:
        """Write everything to disk; raises ``UserError`` if something could not be written, now or before."""

    @abstractmethod
    def close(self, last: Mapping[str, float]) -> None:
        """End the run, with the last value of every metric. Raises nothing."""


class TensorBoard(Tracker):
    """TensorBoard: curves, panels, and in the HPARAMS tab the options and metrics of runs to compare.

    Args:
        folder: folder of the event files.
        hparams: the run's options, as ``flatten`` gives them.
    """

    _writer: "SummaryWriter"

    def __init__(self, folder: Path, hparams: Mapping[str, Plain]) -> None:
        self._folder, self._hparams = folder, dict(hparams)

    def open(self, first_iter: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        _leave_faults_to_flush()
        with self._events():
            self._writer = SummaryWriter(str(self._folder), purge_step=first_iter)

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        with contextlib.suppress(OSError):  # ``flush`` raises it again
            for name, value in values.items():
                self._writer.add_scalar(name, value, iteration)

    def picture(self, iteration: int, name: str, picture: np.ndarray) -> None:
        with contextlib.suppress(OSError):
            self._writer.add_image(name, picture, iteration, dataformats="HWC")

    def flush(self) -> None:
        with self._events():
            self._writer.flush()

    def close(self, last: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams

        with contextlib.suppress(OSError):
            if last:  # the tab takes the values from the curves of these names
                for summary in hparams(self._hparams, dict(last)):
                    self._writer._get_file_writer().add_summary(summary)
            self._writer.close()

    @contextlib.contextmanager
    def _events(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._folder, error) from error


@cache
def _leave_faults_to_flush() -> None:
    """Silence the traceback of TensorBoard's writing thread on a full disk; ``flush`` raises the same error."""
    from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

    others = threading.excepthook

    def hook(fault: threading.ExceptHookArgs) -> None:
        if not (isinstance(fault.thread, _AsyncWriterThread) and isinstance(fault.exc_value, OSError)):
            others(fault)

    threading.excepthook = hook


class WeightsAndBiases(Tracker):
    """Weights & Biases: a run of a project at wandb.ai, or with ``WANDB_MODE=offline`` on this computer.

    Args:
        project: ``PROJECT`` or ``ENTITY/PROJECT``.
        name: name of the run.
        folder: folder of the run. Its ``wandb.txt`` holds the id with which a resumed training continues the run.
        hparams: the run's options, as ``flatten`` gives them.
    """

    def __init__(self, project: str, name: str, folder: Path, hparams: Mapping[str, Plain]) -> None:
        if find_spec("wandb") is None:
            raise UserError('logger.wandb: needs a package that is not installed; pip install "atbsn[wandb]"')
        self._entity, _, self._project = project.rpartition("/")
        self._name, self._folder, self._hparams = name, folder, dict(hparams)
        self._run: Any = None

    def open(self, first_iter: int) -> None:
        import wandb

        known = self._folder / "wandb.txt"
        try:
            continued = known.read_text().strip() if first_iter > 1 and known.is_file() else None
            self._run = wandb.init(
                project=self._project, entity=self._entity or None, name=self._name, dir=str(self._folder),
                config=self._hparams, id=continued, resume="allow" if continued else None,
            )  # fmt: skip
        except (wandb.Error, OSError) as error:
            raise UserError(
                f"logger.wandb: no run could be begun ({error}); log in with 'wandb login', or set WANDB_MODE=offline"
            ) from error
        write_text(known, f"{self._run.id}\n")

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "iteration": iteration})

    def picture(self, iteration: int, name: str, picture: np.ndarray) -> None:
        import wandb

        self._run.log({name: wandb.Image(picture), "iteration": iteration})

    def flush(self) -> None:
        """Nothing to do: Weights & Biases keeps its own files and sends them when it can."""

    def close(self, last: Mapping[str, float]) -> None:
        self._run.summary.update(last)
        self._run.finish()


def flatten(options: Mapping[str, Any], prefix: str = "") -> dict[str, Plain]:
    """Turn ``{"train": {"optim": {"lr": 1}}}`` into ``{"train.optim.lr": 1}``. Values such as lists become text."""
    flat: dict[str, Plain] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
