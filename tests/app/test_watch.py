"""atbsn watch, as it is used: pictures arrive, it is ended and started again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.kinds import Command
from helpers.photos import NETWORK, noise, tiny

from atbsn.archs.weights import save_weights
from atbsn.engine.inference.pipeline import arrivals
from atbsn.pictures import Picture, read_picture, write_picture


@pytest.fixture
def watch(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """``watch(*arguments, then=...)``: watch ``in`` until each of ``then`` was done between two looks, then Ctrl-C."""
    save_weights("tiny.pth", tiny().state_dict(), {"network": NETWORK})
    (tmp_path / "in").mkdir()

    def call(*arguments: str, then: Sequence[Any] = ()) -> tuple[int | str, str]:
        steps = iter(then)

        def sleep(seconds: float) -> None:
            step = next(steps, None)
            if step is None:
                raise KeyboardInterrupt
            step()

        monkeypatch.setattr(arrivals.time, "sleep", sleep)
        return command("watch", "in", "--weights", "tiny.pth", *arguments)

    return call


def nothing() -> None:
    pass


def add(name: str, seed: int = 0) -> Any:
    return lambda: write_picture(Path("in") / name, Picture(noise(40, 50, 3, seed=seed)))


def test_what_arrives_is_denoised_and_a_restart_goes_on(watch: Callable[..., Any]) -> None:
    add("a.png")()
    os.utime("in/a.png", (1e9, 1e9))
    status, said = watch(then=[nothing, add("sub/b.png", 1), nothing])
    assert status == 0 and "in_clean: 2 pictures done" in said and "noise" in said, said
    clean = Path("in_clean")
    assert (clean / "a.png").stat().st_mtime == 1e9
    assert not np.array_equal(read_picture(clean / "a.png").rgb, noise(40, 50, 3))
    before = (clean / "sub" / "b.png").stat().st_mtime_ns, (clean / "a.png").read_bytes()
    add("c.png", 2)()
    status, said = watch(then=[nothing, nothing])
    assert status == 0 and "1 pictures done, 2 were done before" in said and said.count(" -> ") == 1
    assert before == ((clean / "sub" / "b.png").stat().st_mtime_ns, (clean / "a.png").read_bytes())
    status, said = watch("--strength", "0.5", then=[nothing, nothing])
    assert status == 0 and "3 pictures done" in said, "other settings make other pictures"


def test_a_broken_picture_is_told_and_tried_again_when_it_is_mended(watch: Callable[..., Any]) -> None:
    Path("in/a.png").write_bytes(b"half")
    status, said = watch(then=[nothing, nothing, add("a.png"), nothing])
    assert status == 2 and said.count("cannot be read as a picture") == 1
    assert "1 pictures done, 1 could not be done" in said and Path("in_clean/a.png").is_file()


def test_only_new_and_nothing_of_others(watch: Callable[..., Any]) -> None:
    add("old.png")()
    write_picture("out/theirs.png", Picture(noise(8, 8, 3)))
    theirs = Path("out/theirs.png").read_bytes()
    status, said = watch("--only-new", "-o", "out", then=[add("new.png"), add("theirs.png"), nothing])
    assert status == 2 and "1 pictures that are there already are left alone" in said
    assert "is there and was not made of it" in said and Path("out/theirs.png").read_bytes() == theirs
    assert {path.name for path in Path("out").glob("*.png")} == {"new.png", "theirs.png"}
    status, said = watch("--overwrite", "-o", "out", then=[nothing, nothing])
    assert (
        status == 0 and "2 pictures done, 1 were done before" in said and Path("out/theirs.png").read_bytes() != theirs
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gone",), "gone: no such folder"),
        (("in", "-o", "in"), "give another --output"),
        (("in", "--weights", "nothing"), "no weights of this name"),
        (("in", "--strength", "9"), "strength"),
        (("in", "--raw", "--page", "1"), "leave them out with --raw"),
    ],
)
def test_what_cannot_be(command: Command, arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    status, output = command("watch", *arguments)
    assert status == 2 and said in output and "Traceback" not in output
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM that a process could catch")
def test_a_service_is_ended_by_its_signal(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save_weights(tmp_path / "tiny.pth", tiny().state_dict(), {"network": NETWORK})
    arguments = [sys.executable, "-m", "atbsn", "watch", "in", "--weights", "tiny.pth", "--every", "0.1"]
    watching = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    patience = time.monotonic() + 120
    write_picture(tmp_path / "in" / "a.png", Picture(noise(40, 50, 3)))
    noted = tmp_path / "in_clean" / "manifest" / "done-1-of-1.jsonl"
    while not (noted.exists() and noted.stat().st_size) and watching.poll() is None and time.monotonic() < patience:
        time.sleep(0.05)
    watching.send_signal(signal.SIGTERM)
    said, _ = watching.communicate(timeout=120)
    assert watching.returncode == 0 and "in_clean: 1 pictures done" in said and "Traceback" not in said, said
    assert [path.name for path in (tmp_path / "in_clean").iterdir()].count("a.png") == 1
    assert not list((tmp_path / "in_clean").rglob("*.tmp"))
