"""``atbsn serve``: the page in the browser."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from atbsn.app.adapt import sentence, warnings
from atbsn.app.page.server import serve
from atbsn.archs.base import Network
from atbsn.engine.adaptation import adapt


def main(arguments: Namespace) -> None:
    serve(arguments.weights, arguments.host, arguments.port, adapt=_adapt)


def _adapt(
    pictures: Sequence[Path],
    minutes: float,
    start: Network,
    on_progress: Callable[[float, str], None],
    should_stop: Callable[[], bool],
) -> tuple[Network | None, str]:
    result = adapt(pictures, minutes, start, on_progress, should_stop)
    said = [sentence(result), *(f"{warning[0].upper()}{warning[1:]}." for warning in warnings(result))]
    return result.net if result.helped else None, " ".join(said)
