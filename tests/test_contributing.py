"""CONTRIBUTING.md's own network and method, run as they stand: nothing else is touched for them."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atbsn.archs.weights import read_weights

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = {name: code for name, code in re.findall(r"```(?:python|yaml)\n# ([\w.]+)\n(.*?)```", PAGE, re.DOTALL)}
SECTION = PAGE.split("## Add a network and a method")[1].split("\n## ")[0]
COMMANDS = [
    shlex.split(line) for block in re.findall(r"```bash\n(.*?)```", SECTION, re.DOTALL) for line in block.splitlines()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files in a folder of their own, and what its commands made of them."""
    folder = tmp_path_factory.mktemp("tenant")
    for name, code in FILES.items():
        (folder / name).write_text(code, encoding="utf-8")
    for command in COMMANDS[:-1]:
        run(folder, *command)
    return folder


def run(folder: Path, program: str, *arguments: str) -> str:
    """A command of the page in ``folder``, with the checkout's package and tests."""
    assert program in ("python", "atbsn")
    words = [str(REPOSITORY / each) if (REPOSITORY / each).is_file() else each for each in arguments]
    result = subprocess.run(
        [sys.executable, *(["-m", "atbsn"] if program == "atbsn" else []), *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_page_has_it_all() -> None:
    assert sorted(FILES) == ["ringmodel.py", "ringnet.py", "ringnet.yml"]
    assert [command[1] for command in COMMANDS[:-1]] == ["train", "valid", "test", "compare", "train"]


def test_weights_carry_their_settings(folder: Path) -> None:
    metadata = read_weights(folder / "experiments/ringnet/models/net_latest.pth").metadata
    assert metadata["denoise"] == {"k": 1, "refine": 1} and metadata["model"] == "RingModel"


def test_blind_spots_are_compared_with_the_refinement(folder: Path) -> None:
    """valid.py --k and the validation in training agree on the k that the weights are meant for."""
    rows = read_csv(folder / "results/ringnet/val/metrics.csv")
    column = next(name for name in rows[0] if name.startswith("psnr"))
    assert {row["method"] for row in rows} == {"noisy", "k=0", "k=1", "k=3"}
    measured = [float(row[column]) for row in rows if row["method"] == "k=1"]
    (trained,) = read_csv(folder / "experiments/ringnet/metrics.csv")
    assert float(trained["value"]) == pytest.approx(sum(measured) / len(measured), abs=1e-4)


def test_test_py_gives_the_same_bytes_again(folder: Path) -> None:
    pictures = {path.name: path.read_bytes() for path in (folder / "results/ringnet/test").glob("*.png")}
    assert len(pictures) > 1
    arguments = (*COMMANDS[2], "--output", "again")
    run(folder, *arguments)
    assert {path.name: path.read_bytes() for path in (folder / "again").glob("*.png")} == pictures
    run(folder, *(argument.replace("refine: 3", "refine: 0") for argument in arguments))
    assert {path.name: path.read_bytes() for path in (folder / "again").glob("*.png")} != pictures


def test_it_is_compared(folder: Path) -> None:
    methods = {row["method"]: row for row in read_csv(folder / "results/ringnet/val/comparison.csv")}
    assert list(methods) == ["noisy", *(f"ringnet {each}" for each in ("k=0", "k=1", "k=3", "mean")), "OpenCV NLM h=10"]
    assert float(methods["ringnet k=1"]["kMAC/pixel"]) > 0


def test_it_is_distilled(folder: Path) -> None:
    student = torch.load(folder / "experiments/student/models/net_latest.pth", weights_only=True)
    assert student["metadata"]["teacher"]["ks"] == [0, 1, 3] and len(student["metadata"]["frozen_sha256"]) == 1


def test_the_green_test(folder: Path) -> None:
    command = COMMANDS[-1]
    assert "passed" in run(folder, *command, "-c", str(REPOSITORY / "pyproject.toml"), "-p", "no:cacheprovider")
