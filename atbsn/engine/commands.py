"""The command line: arguments, and how a command ends."""

import argparse
import sys
from collections.abc import Callable

from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.log import close_log, logger, set_up_log


def parse_arguments(description: str) -> argparse.ArgumentParser:
    """The arguments that all commands share; a command adds its own."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("-opt", required=True, metavar="FILE.yml", help="option file; a bare name is found under options/")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm"), default="none", help="who started the processes")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="lay a.b=value over the option file"
    )
    # Launchers of older torch versions pass the rank so; it is read from the environment.
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def run_command(main: Callable[[], int | None]) -> None:
    """Run ``main`` and leave: 0, or what it returns; 2 with one clear message when the user's input is wrong.

    A full disk or a closed pipe is said like a wrong input; anything else is a defect of ours and keeps its traceback.
    """
    set_up_log()
    try:
        status = main() or 0
    except (UserError, OSError, KeyboardInterrupt) as error:
        logger.error("interrupted" if isinstance(error, KeyboardInterrupt) else str(error))
        status = 130 if isinstance(error, KeyboardInterrupt) else 2
    finally:
        dist.close()
        close_log()
    sys.exit(status)
