"""``atbsn noise``, by its name and as scripts/noise.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.kinds import Command

from atbsn.noise.camera import RandomCamera
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.likeness import MIN_TRIED
from atbsn.pictures import Picture, write_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for camera, level in (("one", 3), ("two", 12)):
        for index in range(2):
            noisy = np.clip(120 + level * rng.normal(size=(128, 128, 3)), 0, 255)
            path = tmp_path / "pictures" / camera / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_picture(path, Picture(noisy.astype(np.float32)))
    return tmp_path / "pictures"


def test_a_line_a_camera_and_one_for_all(command: Command, folder: Path) -> None:
    status, printed = command("scripts/noise.py", folder)
    lines = [line for line in printed.splitlines() if "level at" in line]
    assert status == 0 and len(lines) == 3
    assert "one:" in lines[0] and "two:" in lines[1] and "(4):" in lines[2]
    assert abs(float(lines[0].split("128: ")[1].split("/")[0]) - 3) < 0.3
    assert abs(float(lines[1].split("128: ")[1].split("/")[0]) - 12) < 1.2


def test_the_figure(command: Command, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    status, printed = command("scripts/noise.py", folder / "one" / "0.png", "--output", tmp_path / "out" / "noise.png")
    assert status == 0 and printed.count("level at") == 1
    assert (tmp_path / "out" / "noise.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_output(command: Command, folder: Path) -> None:
    status, printed = command("scripts/noise.py", folder, "--output", "noise.txt")
    assert status == 2 and "noise.txt" in printed


def test_the_fingerprint_of_pairs_stands_beside_a_prior(command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "ab":
        clean = np.full((128, 128, 3), 100, np.float32)
        noise = rng.normal(size=(128, 129, 3)) * 6
        for kind, rgb in (("clean", clean), ("noisy", clean + (noise[:, 1:] + noise[:, :-1]) / 2**0.5)):
            path = tmp_path / kind / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            write_picture(path, Picture(rgb.astype(np.float32)))
    status, printed = command(
        "scripts/noise.py",
        tmp_path / "noisy",
        "--clean",
        tmp_path / "clean",
        "--prior",
        "default",
        "train_real_strong.yml",
    )
    assert status == 0, printed
    rows = {line[:30].strip(): line[30:].split() for line in printed.splitlines()}
    level, along, down = (
        [float(value) for value in rows[name]] for name in ("level R", "correlation along rows R", "down columns R")
    )
    assert len(level) == 3 and abs(level[0] - 6) < 0.4 and abs(along[0] - 0.48) < 0.06 and abs(down[0]) < 0.1
    assert level[1] != level[2] and min(level) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a picture"),
        (("--clean", "x"), "noisy pictures"),
        (("--prior", "missing.yml"), "missing.yml"),
        (("--prior", "default", "--output", "a.png"), "--output"),
    ],
)
def test_what_cannot_be_told_is_refused(command: Command, arguments: tuple[str, ...], said: str) -> None:
    status, printed = command("scripts/noise.py", *arguments)
    assert status == 2 and said in printed and "Traceback" not in printed


def test_the_table_of_cameras_like_those_of_pictures(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atbsn.engine.evaluation.camera_search.THOROUGH", MIN_TRIED)
    table = tmp_path / "out" / "cameras.json"
    status, printed = command("scripts/noise.py", folder / "two", "--cameras", table, "--weights", "fast")
    assert status == 0 and "16 cameras" in printed
    found = CameraTable.read_from(table)
    assert len(found) == 16 and RandomCamera(cameras=found)(torch.full((2, 3, 32, 32), 90.0))[0].shape == (2, 3, 32, 32)
    again = tmp_path / "again.json"
    assert command("scripts/noise.py", folder / "two", "--cameras", again, "--clean", folder / "two")[0] == 2
    assert not again.exists()  # pictures without noise are of no camera
    status, printed = command("scripts/noise.py", folder / "two", "--cameras", again, "--weights", "fast", "--most", 1)
    assert status == 0 and "8 cameras" in printed


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--cameras", "mine.txt"], ".json"),
        (["--cameras", "mine.json", "--output", "noise.png"], "no --output"),
        (["--weights", "real"], "--cameras"),
        (["--cameras", "mine.json", "--weights", "real", "--clean", "clean"], "--clean"),
    ],
)
def test_wrong_arguments_for_a_table(command: Command, folder: Path, arguments: list[str], rule: str) -> None:
    status, printed = command("scripts/noise.py", folder, *arguments)
    assert status == 2 and rule in printed and "Traceback" not in printed
