"""Parse the command line and run the module in ``atbsn.app.commands`` that it names.

Arguments are parsed before torch is imported, which takes seconds. So help and wrong arguments are answered at once.
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
    """Parse ``sys.argv`` for ``command``, or for ``atbsn COMMAND``; run the command, and exit with its status."""
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
    """Context in which Ctrl-C ends the process at once, with a message. An exception inside an import may be caught."""
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
