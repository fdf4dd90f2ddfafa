"""Names of clean files, and how many threads do the work."""

import os
from pathlib import Path

import pytest
import torch

from atbsn.engine.inference.pipeline.plan import mirrored_name
from atbsn.engine.inference.pipeline.run import Concurrency


@pytest.mark.parametrize(
    ("name", "developed", "undeveloped"),
    [
        ("trip/a.NEF", "trip/a.NEF.tif", "trip/a.NEF.dng"),
        ("a.DNG", "a.DNG.tif", "a.DNG"),
        ("a.png", "a.png", "a.png.dng"),
        ("a.JPG", "a.JPG", "a.JPG.dng"),
    ],
)
def test_a_clean_file_in_a_folder_of_its_own_keeps_its_name(name: str, developed: str, undeveloped: str) -> None:
    assert mirrored_name(Path(name)) == mirrored_name(Path(name), raw=False) == Path(developed)
    assert mirrored_name(Path(name), raw=True) == Path(undeveloped)


def test_two_threads_of_each_kind_beside_a_cpu_and_all_there_are_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = Concurrency.for_device(torch.device("cpu"))
    assert (cpu.readers, cpu.writers) == (2, 2) and cpu == Concurrency()
    for cores, threads in ((1, 2), (12, 12), (None, 2)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert Concurrency.for_device(torch.device("cuda")) == Concurrency(threads, threads, 2 * threads * cpu.memory)
