"""A limited time for work in several stages, which share one object."""

import time
from collections.abc import Callable


class TimeBudget:
    """A number of seconds from now on, cut short when somebody asks to stop.

    Args:
        seconds: seconds from now on.
        should_stop: whether somebody asked to stop; called each time that the budget is read.
        clock: gives seconds since any fixed moment; by default the machine's monotonic clock.
    """

    def __init__(
        self,
        seconds: float,
        should_stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._clock = time.monotonic if clock is None else clock
        self._should_stop = should_stop
        self._end = self._clock() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; 0 when they are over or somebody asked to stop."""
        return 0.0 if self._should_stop() else max(0.0, self._end - self._clock())

    @property
    def is_spent(self) -> bool:
        """Whether to stop and return what has been found."""
        return self.left == 0

    def part(self, seconds: float) -> "TimeBudget":
        """Make a budget of the next ``seconds``, at most of what is left. It stops when this one is stopped."""
        return TimeBudget(min(seconds, self.left), self._should_stop, self._clock)
