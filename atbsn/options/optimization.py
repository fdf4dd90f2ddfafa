"""The options of optimizers and of schedules of the learning rate."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from atbsn.options.section import Decay, Section, Share
from atbsn.utils.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

S = TypeVar("S", bound="RateSchedule")


class Optim(Section):
    """The options of every optimizer. A new one is a subclass that names a class of ``torch.optim``, and an entry of
    ``Train.optim``."""

    FUSED_ON: ClassVar[tuple[str, ...]] = ("cuda",)
    """Types of devices on which PyTorch has a fused form of the optimizer."""

    type: str
    lr: PositiveFloat

    def arguments(self, device: str) -> dict[str, Any]:
        """Keywords of the class of ``torch.optim`` for parameters on a device of this type."""
        return {**self.model_dump(exclude={"type"}), "fused": device in self.FUSED_ON or None}


class Adam(Optim):
    """Adam (Kingma and Ba, arXiv 1412.6980), or AdamW, whose weight decay is decoupled (arXiv 1711.05101)."""

    FUSED_ON: ClassVar[tuple[str, ...]] = ("cuda", "cpu")

    type: Literal["Adam", "AdamW"]
    lr: PositiveFloat
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0

    def arguments(self, device: str) -> dict[str, Any]:
        capturable = {"capturable": True} if device == "cuda" else {}  # for a CUDA graph; the results are the same
        return {**super().arguments(device), **capturable}


class SGD(Optim):
    """Stochastic gradient descent with momentum."""

    type: Literal["SGD"]
    lr: PositiveFloat
    momentum: Fraction = 0.0
    weight_decay: NonNegativeFloat = 0.0


class RateSchedule(Section):
    """The options of every schedule of the learning rate. A new one is a subclass with ``part``, and an entry of
    ``Train.scheduler``."""

    LENGTHS: ClassVar[tuple[str, ...]] = ()
    """Fields that are numbers of iterations, or shares of the training, or lists of them. ``warmup_iter`` is always
    one."""

    type: str
    warmup_iter: NonNegativeInt | Share = 0
    """Iterations, or their share of the training, during which the learning rate rises linearly from lr / warmup_iter
    to what it would be without the warm-up. The rest of the schedule does not move."""

    @abstractmethod
    def part(self, done: int, total_iter: int, lr: float) -> float:
        """The factor on ``lr`` after ``done`` of ``total_iter`` iterations. All lengths are iterations here."""

    def rate(self, done: int, total_iter: int, lr: float) -> float:
        """The factor on ``lr`` with the warm-up."""
        warmup = min(1.0, (done + 1) / self.warmup_iter) if self.warmup_iter else 1.0
        return self.part(done, total_iter, lr) * warmup

    def with_lengths(self: S, change: Callable[[float], float]) -> S:
        """Make the same schedule with ``change`` applied to all of its lengths."""
        lengths = {name: getattr(self, name) for name in ("warmup_iter", *self.LENGTHS)}
        return self.model_copy(
            update={
                name: list(map(change, length)) if isinstance(length, list) else change(length)
                for name, length in lengths.items()
            }
        )


class CosineSchedule(RateSchedule):
    """The learning rate falls from lr to eta_min along half a cosine, over all iterations after hold."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("hold",)

    type: Literal["CosineAnnealing"]
    hold: NonNegativeInt | Share = 0
    """Iterations, or their share of the training, at lr before the cosine begins."""
    eta_min: NonNegativeFloat = 0.0

    def part(self, done: int, total_iter: int, lr: float) -> float:
        low, steps = self.eta_min / lr, max(1, total_iter - self.hold)
        return low + (1 - low) * (1 + math.cos(math.pi * min(max(0, done - self.hold), steps) / steps)) / 2


class StepSchedule(RateSchedule):
    """The learning rate is multiplied by gamma every step_size iterations, or every such share of the training."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("step_size",)

    type: Literal["Step"]
    step_size: PositiveInt | Share
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5

    def part(self, done: int, total_iter: int, lr: float) -> float:
        return self.gamma ** (done // self.step_size)


class MultiStepSchedule(RateSchedule):
    """The learning rate is multiplied by gamma at each milestone: after so many iterations, or this share of them."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("milestones",)

    type: Literal["MultiStep"]
    milestones: list[PositiveInt | Share]
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5

    def part(self, done: int, total_iter: int, lr: float) -> float:
        return self.gamma ** sum(milestone <= done for milestone in self.milestones)


class ConstantSchedule(RateSchedule):
    """The learning rate stays at lr."""

    type: Literal["Constant"]

    def part(self, done: int, total_iter: int, lr: float) -> float:
        return 1.0
