"""Types of the fixtures of ``conftest.py`` that are functions."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Command: TypeAlias = Callable[..., tuple[int | str, str]]
"""``command("train", "-opt", path)``: runs a command; its exit status and what it printed."""
WriteOptions: TypeAlias = Callable[..., Path]
"""``write_options(total_iter=2)``: writes an option file; its path."""
