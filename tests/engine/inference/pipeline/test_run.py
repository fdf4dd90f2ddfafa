"""The pipeline itself: memory, order, ends, what is kept of a file."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.kinds import Command

from atbsn.archs import build_arch
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.pipeline import steps
from atbsn.engine.inference.pipeline.memory import ClosedError, MemoryLimit
from atbsn.engine.inference.pipeline.mirrored import Mirrored
from atbsn.engine.inference.pipeline.run import Concurrency, run
from atbsn.engine.inference.pipeline.shards import Shard
from atbsn.engine.inference.pipeline.task import Refused, Task
from atbsn.pictures import Picture, read_picture, write_picture


def denoiser(**settings: Any) -> Denoiser:
    torch.manual_seed(0)
    return photo_denoiser(build_arch({"type": "ATBSN", "width": 2}), **settings)


def noise(height: int, width: int) -> Picture:
    return Picture(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def tasks(folder: Path, number: int, size: tuple[int, int] = (300, 320)) -> list[Task]:
    """Files of noise, large enough to be measured before they are read."""
    found = []
    for index in range(number):
        write_picture(folder / "in" / f"{index}.bmp", noise(*size))
        found.append(Task(f"{index}.bmp", folder / "out" / f"{index}.bmp", folder / "in" / f"{index}.bmp"))
    return found


@pytest.mark.parametrize("threads", [1, 4])
def test_pictures_in_memory_are_bounded_and_told_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    size = 3 * 300 * 320
    inside, most = 0, 0
    lock = threading.Lock()

    def read(path: Path, real: Callable[..., Picture] = read_picture) -> Picture:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        return real(path)

    def write(path: Path, picture: Picture, aside: Any = None, real: Callable[..., None] = write_picture) -> None:
        nonlocal inside
        time.sleep(0.01)
        real(path, picture, aside=aside)
        with lock:
            inside -= 1

    monkeypatch.setattr(steps, "write_picture", write)
    monkeypatch.setattr(steps, "begin_clean", lambda denoiser, picture, *how, **more: lambda: picture)
    given = tasks(tmp_path, 8)
    assert given[0].source.stat().st_size > 2**18
    told, concurrency = [], Concurrency(threads, threads, 2 * size)
    run(given, denoiser(), lambda result: told.append(result.task.name), read=read, concurrency=concurrency)
    assert told == [task.name for task in given] and most <= 2
    run(given, denoiser(), lambda result: None, read=read, concurrency=Concurrency(threads, threads, 0))
    assert all(task.target.is_file() for task in given), "one alone is let in, whatever its size"


def test_nobody_waits_for_ever() -> None:
    memory = MemoryLimit(10)
    memory.enter(0, 100)
    ended = []

    def enter() -> None:
        try:
            memory.enter(1, 1)
        except ClosedError:
            ended.append(True)

    waiting = threading.Thread(target=enter)
    waiting.start()
    memory.close()
    waiting.join(5)
    assert ended and not waiting.is_alive()


def test_an_interruption_lets_what_is_written_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, picture: Picture, aside: Any = None, real: Callable[..., None] = write_picture) -> None:
        time.sleep(0.2)
        real(path, picture, aside=aside)

    def clean(denoiser: Any, picture: Picture, name: str, *how: Any, **more: Any) -> Callable[[], Picture]:
        if name.endswith("1.bmp"):
            raise KeyboardInterrupt
        return lambda: picture

    monkeypatch.setattr(steps, "write_picture", write)
    monkeypatch.setattr(steps, "begin_clean", clean)
    told = []
    with pytest.raises(KeyboardInterrupt):
        run(tasks(tmp_path, 3), denoiser(), lambda result: told.append(result.task.name))
    assert told == ["0.bmp"] and [path.name for path in (tmp_path / "out").iterdir()] == ["0.bmp"]


def test_nothing_taken_off_is_the_file_itself_with_its_date(tmp_path: Path, command: Command) -> None:
    write_picture(tmp_path / "in" / "a.jpg", noise(40, 50))
    os.utime(tmp_path / "in" / "a.jpg", (1e9, 1e9))
    options = "{name: x, num_gpu: 0, path: {pretrain_network: fast}, test: {denoise: {strength: 0}}}"
    (tmp_path / "x.yml").write_text(options)
    for given, made in (("in", "out/a.jpg"), ("in/a.jpg", "one/a.jpg"), ("in/a.jpg", "b.jpg")):
        output = made if made == "b.jpg" else made.split("/")[0]
        status, said = command("test", "-opt", "x.yml", "--input", given, "--output", output)
        assert status == 0, said
        assert (tmp_path / made).read_bytes() == (tmp_path / "in" / "a.jpg").read_bytes()
        assert (tmp_path / made).stat().st_mtime == 1e9


def test_a_folder_of_results_that_holds_an_input(tmp_path: Path) -> None:
    """``o/a/b/x.png`` would go to ``o/b/x.png``, which is another original."""
    for name in ("a/b/x.png", "b/x.png"):
        write_picture(tmp_path / name, noise(9, 9))
    found = list(Mirrored([tmp_path / "a", tmp_path / "b"], tmp_path, Shard()))
    assert [isinstance(item, Refused) for item in found] == [True, False]
    assert "which is one of the pictures" in found[0].reason and found[1].target == tmp_path / "x.png"


def test_data_sets_go_on_too(tmp_path: Path, command: Command) -> None:
    for name in "ab":
        write_picture(tmp_path / "in" / f"{name}.png", noise(40, 50))
    options = (
        "{name: x, num_gpu: 0, path: {pretrain_network: fast}, datasets: {test: {type: NoisyFolder, dataroot: in}}}"
    )
    (tmp_path / "x.yml").write_text(options)
    assert command("test", "-opt", "x.yml", "--output", "out")[0] == 0
    write_picture(tmp_path / "in" / "b.png", noise(41, 50))
    status, said = command("test", "-opt", "x.yml", "--output", "out", "--resume")
    assert status == 0 and "1 pictures done, 1 were done before" in said
    status, said = command("test", "-opt", "x.yml", "--output", "out", "--resume")
    assert status == 0 and "nothing is left to do" in said
    assert read_picture(tmp_path / "out" / "b.png").rgb.shape == (41, 50, 3)
