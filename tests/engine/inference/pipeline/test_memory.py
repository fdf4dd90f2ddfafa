"""Memory that was freed goes back to the system."""

import ctypes
import sys
from pathlib import Path

import pytest

from atbsn.engine.inference.pipeline.memory import give_back

_PIECE = 100_000
"""Bytes: less than what glibc asks the system for alone."""


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' libraries have no such call")
def test_freed_memory_goes_back() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("not glibc")
    pieces = [bytearray(b"1" * _PIECE) for _ in range(1000)]
    pieces = pieces[::50]  # between what is freed, so that nothing goes back by itself
    before = _resident()
    give_back()
    assert before - _resident() > 500 * _PIECE
    assert len(pieces) == 20


def test_it_can_be_called_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    give_back()
