"""Durations: measure them, and print them, roughly for forecasts and exactly for measurements."""

import time
from collections.abc import Callable
from statistics import median


def median_seconds(run: Callable[[], object], repeats: int = 1, warm_up: int = 1) -> float:
    """Call ``run`` ``warm_up`` times and then ``repeats`` times, and return the median time of the latter, seconds.

    ``run`` itself has to wait for the device that it computes on.
    """
    seconds = []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return median(seconds[warm_up:])


def rough_duration(seconds: float) -> str:
    """Print a duration in the largest unit of which there are at least two: ``90 s``, ``12 min``, ``44 days``."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def exact_duration(seconds: float) -> str:
    """Print a duration to the second: ``02:03:04``, ``1 d 02:03:04``."""
    days, rest = divmod(round(seconds), 86400)
    return f"{f'{days} d ' if days else ''}{time.strftime('%H:%M:%S', time.gmtime(rest))}"
