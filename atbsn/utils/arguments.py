"""Command lines: what all commands share. Nothing heavy is imported, so that ``--help`` answers at once."""

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
"""Schedulers and torchrun restart what did not end with 0: a stopped training must not look like a finished one."""


def add_shared(parser: argparse.ArgumentParser) -> None:
    """The option file, overrides, and who started the processes."""
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
    # Launchers of older torch versions pass the rank so; it is read from the environment.
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A positive number as an argument's type."""

    def positive_number(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError(text)
        return value

    return positive_number
