"""Names of clean files, and how many threads do the work."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atbsn.engine.inference.pipeline.plan import beside, mirrored_name
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


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path)


def test_two_pictures_with_one_target_are_refused_but_for_the_first(tmp_path: Path) -> None:
    sources = [tmp_path / folder / "x.png" for folder in "abc"]
    put(*sources)
    plan = beside([str(source) for source in sources], str(tmp_path / "out"), overwrite=False)
    target = tmp_path / "out" / "x_clean.png"
    assert [(task.source, task.target) for task in plan.tasks] == [(sources[0], target)]
    assert (plan.done, plan.refused) == (0, 2)
    assert plan.found.skipped == [(source, f"{target} is the clean picture of {sources[0]}") for source in sources[1:]]


def test_no_original_is_written_over(tmp_path: Path) -> None:
    """One that is named like a clean picture is an original if it was asked for."""
    sources = [tmp_path / name for name in ("x.png", "x_clean.png", "y.png")]
    put(*sources)
    (tmp_path / "y_clean.png").mkdir()
    plan = beside([str(source) for source in sources], None, overwrite=True)
    assert [task.target.name for task in plan.tasks] == ["x_clean_clean.png"]
    assert (plan.done, plan.refused) == (0, 2)
    (first, why), (second, other) = sorted(plan.found.skipped)
    assert (first.name, second.name) == ("x.png", "y.png")
    assert f"would go to {tmp_path / 'x_clean.png'}" in why and other == f"{tmp_path / 'y_clean.png'} is a folder"


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_there_is_done(tmp_path: Path, overwrite: bool) -> None:
    put(*(tmp_path / "in" / name for name in ("x.png", "y.png", "z.png")))
    put(tmp_path / "out" / "x_clean.png", tmp_path / "out" / "z_clean.png")
    plan = beside([str(tmp_path / "in")], str(tmp_path / "out"), overwrite)
    names = ["x_clean.png", "y_clean.png", "z_clean.png"] if overwrite else ["y_clean.png"]
    assert sorted(task.target.name for task in plan.tasks) == names
    assert (plan.done, plan.refused) == (0 if overwrite else 2, 0)
    assert sorted(path.name for path in plan.found.paths) == [name.replace("_clean", "") for name in names]
