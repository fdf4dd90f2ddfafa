"""From the command line to the module in ``atbsn.app.commands`` that does what it says.

Arguments are read before torch is imported, which takes seconds: help and a mistyped argument are answered at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import FrameType

from atbsn.app.arguments import COMMANDS, atbsn_parser, command_parser


def main() -> None:
    """The ``atbsn`` command."""
    run()


def run(command: str | None = None) -> None:
    """Read ``sys.argv`` for ``command``, or for ``atbsn COMMAND``; do it; exit with its status."""
    with _leaving_at_once():
        parser = atbsn_parser() if command is None else command_parser(command)
        arguments = parser.parse_args()
        command = command or arguments.command
        if command is None:
            parser.print_help()
            raise SystemExit(2)
        from atbsn.engine.commands import run_command

        module = import_module(f"atbsn.app.commands.{command}")
    run_command(partial(module.main, arguments), plain=COMMANDS[command].plain)


@contextmanager
def _leaving_at_once() -> Iterator[None]:
    """Ctrl-C while nothing has been made yet ends the process with a word; inside an import it could not."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    previous = signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os.write(2, b"interrupted\n")
    os._exit(128 + number)
