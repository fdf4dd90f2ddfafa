"""Arguments that all commands share. Nothing heavy is imported, so that ``--help`` answers at once."""

import argparse
from collections.abc import Callable

EXIT_STATUS = """\
exit status:
  0      done
  1      a defect, or another process of the run has ended
  2      wrong input, a full disk or the like; a message says what to do. Starting again changes nothing
  128+n  ended by signal n (SIGHUP 1, SIGINT 2, SIGTERM 15); a training has saved its state. Start it again with
         --auto_resume
"""
"""The text about exit statuses. Schedulers and torchrun restart what did not end with 0, so a training that was stopped
must not end with 0."""


def add_shared(parser: argparse.ArgumentParser) -> None:
    """Add the option files, overrides, and the launcher of the processes."""
    parser.add_argument(
        "-opt", "--opt", nargs="+", action="extend", required=True, metavar="FILE.yml",
        help="option file, or several laid over one another (method, data); a bare name is found under options/",
    )  # fmt: skip
    parser.add_argument(
        "--launcher", choices=("none", "pytorch", "slurm"), default="none", help="who started the processes"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="lay a.b=value over the option file"
    )
    # Launchers of older torch versions pass the rank here; it is read from the environment instead.
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Make the type of an argument that is a positive number of this ``kind``."""

    def positive_number(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError(text)
        return value

    return positive_number
