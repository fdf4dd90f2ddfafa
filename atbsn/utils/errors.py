"""The one exception a user is meant to read."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Something the user gave is wrong. The message says value, rule and remedy.

    The commands print it in one line and leave with exit status 2; from Python it is a ``ValueError``.
    """


@contextmanager
def at_fault(option: str) -> Iterator[None]:
    """Put ``option``, whose value is looked at inside, before what a ``UserError`` from there says."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{option}: {error}") from None


def in_a_phrase(error: Exception) -> str:
    """The kind of ``error`` and the first line of what it says, for a message in one line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:160]}" if text else type(error).__name__
