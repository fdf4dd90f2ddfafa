"""Where the numbers and pictures of a training can be looked at: TensorBoard, Weights & Biases."""

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
"""What an option's value is to a tracker."""


class Tracker(ABC):
    """Somewhere that shows a run. Called by rank 0 alone; ``open`` comes first."""

    @abstractmethod
    def open(self, first_iter: int) -> None:
        """Begin, or go on with ``first_iter``; a ``UserError`` where that is refused."""

    @abstractmethod
    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Numbers by name."""

    @abstractmethod
    def picture(self, iteration: int, name: str, picture: np.ndarray) -> None:
        """An (H, W, 3) uint8 RGB picture."""

    @abstractmethod
    def flush(self) -> None:
        """Bring everything to disk; a ``UserError`` if it cannot be written, now or at any time before."""

    @abstractmethod
    def close(self, last: Mapping[str, float]) -> None:
        """End, with the last value of every metric; raises nothing."""


class TensorBoard(Tracker):
    """Curves, panels, and in its HPARAMS tab the options beside the metrics, to compare runs by.

    Args:
        folder: of the event files.
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
    """TensorBoard's writing thread would print a traceback where a disk is full; ``flush`` raises the same error."""
    from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread

    others = threading.excepthook

    def hook(fault: threading.ExceptHookArgs) -> None:
        if not (isinstance(fault.thread, _AsyncWriterThread) and isinstance(fault.exc_value, OSError)):
            others(fault)

    threading.excepthook = hook


class WeightsAndBiases(Tracker):
    """The same, as a run of a project at wandb.ai, or kept here with ``WANDB_MODE=offline``.

    Args:
        project: ``PROJECT`` or ``ENTITY/PROJECT``.
        name: of the run.
        folder: of the run; ``wandb.txt`` there tells a resumed training which run to go on with.
        hparams: the run's options.
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
    """``{"train": {"optim": {"lr": 1}}}`` as ``{"train.optim.lr": 1}``; what is no single value as text."""
    flat: dict[str, Plain] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
