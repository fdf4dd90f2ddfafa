import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atbsn.data.folder import NoisyFolder
from atbsn.data.loader import SampleNumbers, train_loader
from atbsn.data.patches import PatchDataset
from atbsn.pictures import Picture, write_picture

LOADER = """
import sys
from atbsn.data.folder import NoisyFolder
from atbsn.data.loader import SampleNumbers, train_loader
from atbsn.data.patches import PatchDataset

if __name__ == "__main__":
    numbers = SampleNumbers(batch_size=2, total_iter=10**9)
    loader = train_loader(PatchDataset(NoisyFolder(sys.argv[1]), 8), numbers, num_workers=2)
"""
CTRL_C = """
    try:
        for batch in loader:
            print("ready", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""
EXIT = """
    batches = iter(loader)
    next(batches)
    print("ready", flush=True)
    sys.exit(3)
"""


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> PatchDataset:
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(5):
        write_picture(root / f"{number}.png", Picture(rng.integers(0, 256, (16, 20, 3), np.uint8)))
    return PatchDataset(NoisyFolder(root), 8, seed=1)


def load(
    patches: PatchDataset, batch_size: int, num_workers: int = 0, start: int = 0, stop: int = 6, **kwargs: Any
) -> list[dict[str, torch.Tensor]]:
    numbers = SampleNumbers(batch_size=batch_size, start_iter=start, total_iter=stop, **kwargs)
    return list(train_loader(patches, numbers, num_workers=num_workers))


def same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a[name], b[name]) for a, b in pairs for name in ("noisy", "orientation", "index"))


def test_batches_are_the_numbered_samples(patches: PatchDataset) -> None:
    batches = load(patches, 3)
    assert len(batches) == 6
    assert batches[0]["noisy"].shape == (3, 8, 8, 3)
    noisy = torch.cat([batch["noisy"] for batch in batches])
    assert torch.equal(noisy, torch.stack([patches[number]["noisy"] for number in range(18)]))


def test_workers_change_nothing(patches: PatchDataset) -> None:
    alone = load(patches, 3)
    assert same(alone, load(patches, 3, num_workers=1))
    assert same(alone, load(patches, 3, num_workers=2))


@pytest.mark.parametrize("done", [1, 4, 6])
def test_resuming_continues_the_stream(patches: PatchDataset, done: int) -> None:
    whole = load(patches, 3, accumulate=2)
    assert len(whole) == 12
    assert same(whole[2 * done :], load(patches, 3, start=done, accumulate=2))


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "world_size"), [(2, 1, 2), (1, 1, 4), (2, 2, 1), (1, 2, 2), (1, 4, 1)]
)
def test_ranks_and_accumulation_share_the_same_samples(
    patches: PatchDataset, batch_size: int, accumulate: int, world_size: int
) -> None:
    whole = load(patches, 4)
    ranks = [
        load(patches, batch_size, accumulate=accumulate, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    for iteration, batch in enumerate(whole):
        steps = range(iteration * accumulate, (iteration + 1) * accumulate)
        parts = [ranks[rank][step]["noisy"] for step in steps for rank in range(world_size)]
        assert torch.equal(torch.cat(parts), batch["noisy"])


def test_loading_leaves_the_global_generator_alone(patches: PatchDataset) -> None:
    state = torch.get_rng_state()
    load(patches, 2, num_workers=1, stop=2)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def start(patches: PatchDataset, tmp_path: Path) -> Callable[..., Any]:
    """A function that starts a script, in a process group of its own, and waits until its loaders work."""

    def start(text: str) -> subprocess.Popen[str]:
        script = tmp_path / "script.py"
        script.write_text(LOADER + text)
        assert isinstance(patches.images, NoisyFolder)
        root = patches.images.paths[0].parent
        process = subprocess.Popen(
            [sys.executable, str(script), str(root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout.readline() == "ready\n"
        return process

    return start


@pytest.mark.skipif(sys.platform != "linux", reason="signals and fork")
def test_workers_end_with_the_main_process(start: Callable[..., Any]) -> None:
    """One that leaves in the middle of its work, and tells them by SIGTERM."""
    process = start(EXIT)
    try:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 3 and not errors
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="signals and fork")
def test_ctrl_c_leaves_no_traceback(start: Callable[..., Any]) -> None:
    process = start(CTRL_C)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal sends: main process and workers
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
