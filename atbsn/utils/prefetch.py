"""Compute the next results in threads while the current one is used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


def prefetch(function: Callable[[S], T], items: Iterable[S], depth: int = 2) -> Iterator[T]:
    """Yield ``map(function, items)``, in order, with up to ``depth`` results computed ahead in threads.

    An exception of ``function`` is raised in place of its result.
    """
    with ThreadPoolExecutor(max_workers=depth) as pool:
        pending: deque[Future[T]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
