"""atbsn adapt: what the command says and writes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.kinds import Command
from helpers.photos import NETWORK, tiny
from helpers.scenes import scene, taken
from PIL import Image

from atbsn.archs.weights import read_weights, save_weights
from atbsn.pictures import Picture, picture_size, write_picture


def test_the_command_ends_by_a_signal_with_usable_weights(tmp_path: Path, repository: Path) -> None:
    write_picture(tmp_path / "in" / "a.png", Picture(taken(scene(192, 192), 12)))
    save_weights(tmp_path / "tiny.pth", tiny().state_dict(), {"network": NETWORK})
    command = [sys.executable, "-c", "from atbsn.app import main; main()", "adapt", "in", "--start", "tiny.pth"]
    command += ["-o", "mine.pth", "--minutes", "30"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout.readline().startswith("using 1")
        time.sleep(5)
        process.send_signal(signal.SIGHUP)
        said = process.communicate(timeout=240)[0]
    assert "Traceback" not in said
    if process.returncode == 128 + signal.SIGHUP:
        assert "finishing this iteration" in said and "use them: atbsn denoise in --weights mine.pth" in said
        assert read_weights(tmp_path / "mine.pth").metadata["network"]["type"] == "PhotoNet"
        assert (tmp_path / "mine_compare.png").is_file()
    else:  # it came while torch was still being imported
        assert process.returncode == -signal.SIGHUP


def test_clean_pictures_are_told_and_the_weights_are_kept(atbsn: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "a.png", Picture(scene(192, 192).round().astype("uint8")))
    status, said = atbsn("adapt", "in", "--start", "tiny.pth", "-o", "mine.pth", "--minutes", "0.1")
    assert status == 0 and "nearly clean, so there is no noise to learn" in said and "the old weights" in said
    kept = read_weights(tmp_path / "mine.pth").params
    assert all((value == kept[name]).all() for name, value in tiny().state_dict().items())
    assert picture_size(tmp_path / "mine_compare.png")[1] == 2 * 200 + 8  # noisy and before


def test_several_cameras_are_told(atbsn: Command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, (make, model) in enumerate((("Canon", "EOS 6D"), ("SONY", "ILCE-7M3"), ("Canon", "EOS 6D"))):
        tags = Image.Exif()
        tags[271], tags[272] = make, model
        Image.fromarray(taken(scene(192, 192), 12, number)).save(
            tmp_path / "in" / f"{number}.jpg", quality=99, exif=tags
        )
    status, said = atbsn("adapt", "in", "--start", "tiny.pth", "-o", "mine.pth", "--minutes", "0.05")
    assert status == 0
    assert "of several cameras: Canon EOS 6D (2), SONY ILCE-7M3 (1); adapt to each camera's pictures alone" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in", "-o", "mine.jpg"], "weights are .pth or .safetensors files"),
        (["in", "-o", "tiny.pth"], "is there already"),
        (["nowhere", "--start", "tiny.pth"], "no picture can be used"),
    ],
)
def test_what_cannot_be(atbsn: Command, tmp_path: Path, arguments: list[str], said: str) -> None:
    write_picture(tmp_path / "in" / "a.png", Picture(taken(scene(192, 192), 12)))
    status, output = atbsn("adapt", *arguments)
    assert status == 2 and said in output and "Traceback" not in output
