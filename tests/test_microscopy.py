"""docs/microscopy.md's example as it stands, with smaller networks and two iterations."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.kinds import Command

from atbsn.data.stack import Stack
from atbsn.noise import estimate

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "microscopy.md").read_text(encoding="utf-8")
FILES = {name: code for name, code in re.findall(r"```(?:python|yaml)\n# ([\w.]+)\n(.*?)```", PAGE, re.DOTALL)}
COMMANDS = [
    shlex.split(line) for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
TRAININGS = [command for command in COMMANDS if command[:2] == ["atbsn", "train"]]
SMALLER = {
    "atbsn.yml": ["network.width=4"],
    "apbsn.yml": ["network.width=4", "network.num_modules=1"],
    "recorrupt.yml": ["network.widths=[4, 4]", "model.num_crops=4", "model.own_models=0"],
    "n2v.yml": ["network.width=4"],
    "structn2v.yml": ["network.width=4"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    exec(compile(FILES["simulate.py"], "simulate.py", "exec"), {})
    (tmp_path / "stack.yml").write_text(FILES["stack.yml"], encoding="utf-8")
    return tmp_path


def test_every_method_of_the_page_is_here() -> None:
    assert [command[3] for command in TRAININGS] == list(SMALLER)


def test_the_noise_is_what_the_page_says(folder: Path) -> None:
    """Shared along rows, not along columns."""
    planes = [tifffile.imread("cells.ome.tif", key=key).astype(np.float32)[..., None] / 4095 * 255 for key in range(4)]
    correlation = estimate(planes).correlation[0, 0]
    assert correlation[4, 5].item() > 0.15 and abs(correlation[5, 4].item()) < 0.1


def test_from_the_stack_to_denoised_planes(folder: Path, command: Command) -> None:
    small = ["train.total_iter=2", "train.precision=fp32", "train.compile=false", "val.limit=1", "logger.print_freq=1"]
    small += [
        "logger.save_checkpoint_freq=2",
        "datasets.train.batch_size_per_gpu=1",
        "datasets.train.num_worker_per_gpu=0",
    ]
    for _, name, *arguments in TRAININGS:
        status, output = command(name, *arguments, "--set", *small, *SMALLER[arguments[1]])
        assert status == 0, output
        assert re.search(r"psnr \d\d\.\d", output)
    _, name, *arguments = COMMANDS[-1]
    status, output = command(name, *arguments, "network.width=4")
    assert status == 0, output
    written = sorted((folder / "results").rglob("*.tif"))
    assert len(written) == 4
    images = Stack("cells.ome.tif")
    assert tifffile.imread(written[0]).shape == images.size(0)
