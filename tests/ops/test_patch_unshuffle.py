from pathlib import Path

import torch
from helpers import golden

from atbsn.ops.patch_unshuffle import patch_shuffle, patch_unshuffle


def test_meets_the_authors_arrangement(assets: Path) -> None:
    expected = golden.read_double(assets, "puca_width8")
    assert torch.equal(patch_unshuffle(expected["patch_unshuffle_in"]), expected["patch_unshuffle_out"])
    assert torch.equal(patch_shuffle(expected["patch_unshuffle_out"]), expected["patch_unshuffle_in"])


def test_is_undone() -> None:
    x = torch.rand(2, 5, 8, 20)
    assert torch.equal(patch_shuffle(patch_unshuffle(x)), x)
    assert patch_unshuffle(x).is_contiguous(memory_format=torch.channels_last)
