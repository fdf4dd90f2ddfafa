"""How a command ends: its exit status and its last message."""

import errno
import re
import signal
import sys
from collections.abc import Callable

import torch

from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.log import close_log, logger, set_up_log

_REMEDIES: dict[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    errno.EMFILE: "allow more open files (ulimit -n), or set num_worker_per_gpu lower",
    errno.EAGAIN: "allow more processes (ulimit -u), or set num_worker_per_gpu lower",
    errno.ENOMEM: "set num_worker_per_gpu lower",
}
"""What a user can do about an error of the system, by its number."""
_SMALLER = "set batch_size_per_gpu, patch_size, the tile or network.width lower"
"""What a user can do when memory does not suffice."""
_COMPILERS = ("torch._dynamo", "torch._inductor")
"""Packages whose exceptions come from ``torch.compile``."""
_SILENT_PEER = re.compile(r"[Tt]imed out (?:waiting|after) (\d+) ?ms|Timeout\(ms\)=(\d+)")
"""What gloo and NCCL say when another process does not answer; the number is milliseconds."""
_PEER_LEFT = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
"""What gloo and NCCL say when another process has ended."""


def run_command(main: Callable[[], int | None], plain: bool = False) -> None:
    """Run ``main`` and exit with the status that it returns; after an error, with one of ``EXIT_STATUS``.

    An error of the system or of another process gets a message without traceback, as wrong input does. Anything else
    is a defect of ours and keeps its traceback.

    Args:
        plain: whether log lines have no time: for commands whose end the user waits for.
    """
    set_up_log(plain=plain)
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
    """The exit status and the message for the user. The message of a defect of ours is empty."""
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
