"""What the pipeline supposes of a picture before it is read, and what it makes of failures."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from atbsn.engine.inference.pipeline.flights import _expected_size, _tried
from atbsn.engine.inference.pipeline.task import Task
from atbsn.utils.errors import UserError


def task(source: Path | None) -> Task:
    return Task("picture.png", Path("clean.png"), source)


@pytest.mark.parametrize(("length", "is_small"), [(2**18 - 1, True), (2**18, False), (2**24, False)])
def test_the_memory_of_a_file_that_is_not_small_is_that_of_its_pixels(
    tmp_path: Path, length: int, is_small: bool
) -> None:
    """With three samples of 8 bits a pixel; how long the file is, is what was found before."""
    source = tmp_path / "picture.png"
    Image.fromarray(np.zeros((13, 17, 3), np.uint8)).save(source)
    assert _expected_size(task(source), (length, 0)) == (0 if is_small else 3 * 13 * 17)


def test_nothing_is_supposed_of_what_is_not_known_or_no_picture(tmp_path: Path) -> None:
    source = tmp_path / "picture.png"
    Image.fromarray(np.zeros((13, 17, 3), np.uint8)).save(source)
    assert _expected_size(task(source), None) == 0
    assert _expected_size(task(None), (2**20, 0)) == 0
    source.write_bytes(b"no picture")
    assert _expected_size(task(source), (2**20, 0)) == 0


def failing(error: BaseException, cause: BaseException | None = None) -> Callable[[], NoReturn]:
    def action() -> NoReturn:
        raise error from cause

    return action


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("picture.png: it is broken; look"), "it is broken; look"),
        (UserError("other.png: it is broken"), "other.png: it is broken"),
        (MemoryError("of 3 GB"), "out of memory (of 3 GB); take smaller tiles (--tile, or test.tile)"),
        (torch.OutOfMemoryError("of 4 GB"), "out of memory (of 4 GB); take smaller tiles (--tile, or test.tile)"),
        (RuntimeError("you tried: can't allocate memory"), "out of memory; take smaller tiles (--tile, or test.tile)"),
        (ValueError("a hole"), "a defect: ValueError: a hole"),
    ],
)
def test_a_failure_is_the_reason_of_one_picture(error: Exception, reason: str) -> None:
    assert _tried(task(None), failing(error)) == (None, reason)


def test_what_succeeds_has_no_reason() -> None:
    assert _tried(task(None), lambda: 7) == (7, None)


@pytest.mark.parametrize(
    ("number", "is_hopeless"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, True), (errno.EACCES, False), (errno.ENOENT, False)],
)
def test_a_full_disk_ends_the_run(number: int, is_hopeless: bool) -> None:
    action: Any = failing(UserError("picture.png: not written"), OSError(number, "said by the system"))
    if is_hopeless:
        with pytest.raises(UserError, match="not written"):
            _tried(task(None), action)
    else:
        assert _tried(task(None), action) == (None, "not written")
