"""scripts/noise.py"""

import numpy as np
import pytest

from atbsn.pictures import Picture, write_picture


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for camera, level in (("one", 3), ("two", 12)):
        for index in range(2):
            noisy = np.clip(120 + level * rng.normal(size=(128, 128, 3)), 0, 255)
            path = tmp_path / "pictures" / camera / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_picture(path, Picture(noisy.astype(np.float32)))
    return tmp_path / "pictures"


def test_a_line_a_camera_and_one_for_all(command, folder):
    status, printed = command("scripts/noise.py", folder)
    lines = [line for line in printed.splitlines() if "level at" in line]
    assert status == 0 and len(lines) == 3
    assert "one:" in lines[0] and "two:" in lines[1] and "(4):" in lines[2]
    assert abs(float(lines[0].split("128: ")[1].split("/")[0]) - 3) < 0.3
    assert abs(float(lines[1].split("128: ")[1].split("/")[0]) - 12) < 1.2


def test_the_figure(command, folder, tmp_path):
    pytest.importorskip("matplotlib")
    status, printed = command("scripts/noise.py", folder / "one" / "0.png", "--output", tmp_path / "out" / "noise.png")
    assert status == 0 and printed.count("level at") == 1
    assert (tmp_path / "out" / "noise.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_output(command, folder):
    status, printed = command("scripts/noise.py", folder, "--output", "noise.txt")
    assert status == 2 and "noise.txt" in printed
