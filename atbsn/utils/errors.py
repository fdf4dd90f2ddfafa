"""The exception whose message is for the user."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Something that the user gave is wrong. The message says value, rule and remedy.

    The commands print it in one line and end with exit status 2. In Python it is a ``ValueError``.
    """


@contextmanager
def at_fault(option: str) -> Iterator[None]:
    """Put ``option`` before the message of a ``UserError`` that is raised inside of the ``with`` block."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{option}: {error}") from None


def in_a_phrase(error: Exception) -> str:
    """Give the class of ``error`` and the first line of its message, cut off after 160 characters."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:160]}" if text else type(error).__name__
