"""The command line: arguments, and how a command ends."""

import argparse
import errno
import re
import signal
import sys
from collections.abc import Callable

import torch

from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.log import close_log, logger, set_up_log

EXIT_STATUS = """\
exit status:
  0      done
  1      a defect, or another process of the run has ended
  2      wrong input, a full disk or the like; a message says what to do. Starting again changes nothing
  128+n  ended by signal n (SIGHUP 1, SIGINT 2, SIGTERM 15); a training has saved its state. Start it again with
         --auto_resume
"""
"""Schedulers and torchrun restart what did not end with 0: a stopped training must not look like a finished one."""

_REMEDIES: dict[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    errno.EMFILE: "allow more open files (ulimit -n), or set num_worker_per_gpu lower",
    errno.EAGAIN: "allow more processes (ulimit -u), or set num_worker_per_gpu lower",
    errno.ENOMEM: "set num_worker_per_gpu lower",
}
_SMALLER = "set batch_size_per_gpu, patch_size, the tile or network.width lower"
_COMPILERS = ("torch._dynamo", "torch._inductor")
_SILENT_PEER = re.compile(r"[Tt]imed out (?:waiting|after) (\d+) ?ms|Timeout\(ms\)=(\d+)")
_PEER_LEFT = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")


def parse_arguments(description: str) -> argparse.ArgumentParser:
    """The arguments that all commands share; a command adds its own."""
    parser = argparse.ArgumentParser(
        description=description, epilog=EXIT_STATUS, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "-opt", required=True, metavar="FILE.yml", help="option file; a bare name is found under options/"
    )
    parser.add_argument(
        "--launcher", choices=("none", "pytorch", "slurm"), default="none", help="who started the processes"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="lay a.b=value over the option file"
    )
    # Launchers of older torch versions pass the rank so; it is read from the environment.
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A positive number as an argument's type."""

    def positive_number(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError(text)
        return value

    return positive_number


def run_command(main: Callable[[], int | None]) -> None:
    """Run ``main`` and leave with what it returns, or with the status that ``EXIT_STATUS`` tells.

    What the system or another process refuses is said like a wrong input; anything else is a defect of ours and keeps
    its traceback.
    """
    set_up_log()
    try:
        status = main() or 0
    except KeyboardInterrupt:
        logger.error("interrupted")
        status = 128 + signal.SIGINT
    except Exception as error:
        status, message = _explain(error)
        if not message:
            raise
        logger.error("%s", message)
    finally:
        dist.close()
        close_log()
    sys.exit(status)


def _explain(error: Exception) -> tuple[int, str]:
    """Exit status and a message for the user, which is empty for a defect of ours."""
    text = str(error).strip()
    if isinstance(error, UserError):
        return 2, text
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{error.filename}: "
        reason = error.strerror or text or type(error).__name__
        return 2, f"{place}{reason}; {_REMEDIES.get(error.errno, 'check the path, its permissions and the disk')}"
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        return 2, f"out of memory ({text.splitlines()[0] if text else type(error).__name__}); {_SMALLER}"
    if type(error).__module__.startswith(_COMPILERS):
        reason = text.splitlines()[0] if text else type(error).__name__
        return 2, f"torch.compile failed ({reason}); set train.compile, test.compile to false or install a C++ compiler"
    if torch.distributed.is_initialized() and (silence := _SILENT_PEER.search(text)):
        seconds = int(silence[1] or silence[2]) / 1000
        return 1, (
            f"another process of this run has not answered for {seconds:g} s (dist_timeout): its machine or the "
            "network is gone, or it waits for something; see the logs of all nodes, and start again with --auto_resume"
        )
    if torch.distributed.is_initialized() and any(sign in text for sign in _PEER_LEFT):
        return 1, "another process of this run has ended, so this one cannot go on; see what it said"
    return 1, ""
