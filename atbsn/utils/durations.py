"""Durations in words: roughly, for forecasts, and exactly, for what was measured."""

import time


def rough_duration(seconds: float) -> str:
    """In the largest unit of which there are at least two: ``90 s``, ``12 min``, ``5 h``, ``44 days``."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def exact_duration(seconds: float) -> str:
    """To the second: ``02:03:04``, ``1 d 02:03:04``."""
    days, rest = divmod(round(seconds), 86400)
    return f"{f'{days} d ' if days else ''}{time.strftime('%H:%M:%S', time.gmtime(rest))}"
