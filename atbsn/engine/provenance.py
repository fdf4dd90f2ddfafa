"""The origin of a result: code, versions, weights."""

import hashlib
import platform
import subprocess
from pathlib import Path

import torch

import atbsn


def commit() -> str:
    """The git commit of this package, and whether files differ from it; or that this is not a git checkout."""
    here = Path(atbsn.__file__).parent
    try:
        done = [
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=here)
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no", "."))
        ]
    except OSError:  # no git on this machine
        return "not a git checkout"
    name, changed = (each.stdout.strip() for each in done)
    return (f"{name} with changes" if changed else name) or "not a git checkout"


def versions() -> str:
    """The versions of atbsn, torch and Python: results may depend on them."""
    return f"atbsn {atbsn.__version__}, torch {torch.__version__}, Python {platform.python_version()}"


def file_sha256(path: str | Path) -> str:
    """The SHA-256 checksum of a file, in hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
