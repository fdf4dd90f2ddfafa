"""A limited time for work of several stages: one object that all of them look at."""

import time
from collections.abc import Callable


class TimeBudget:
    """A number of seconds from now on, cut short when somebody asks to stop.

    Args:
        seconds: from now on.
        should_stop: whether somebody asked to stop; asked each time that the budget is.
        clock: seconds from any fixed moment; without it, this machine's clock.
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
        """Whether to stop, and give what there is."""
        return self.left == 0

    def part(self, seconds: float) -> "TimeBudget":
        """The next ``seconds`` of it, at most what is left; stops when it stops."""
        return TimeBudget(min(seconds, self.left), self._should_stop, self._clock)
