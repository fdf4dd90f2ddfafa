"""An installed package works outside of the checkout: option files, weights and all commands travel with it."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from atbsn import __version__
from atbsn.app.arguments import atbsn_parser


def test_the_container_has_what_it_is_built_of(repository: Path) -> None:
    """All that the build takes in is there, and what is run at its start is a command."""
    ignored = (repository / ".dockerignore").read_text().splitlines()
    taken = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored and all((repository / name).exists() for name in taken)
    project = (repository / "pyproject.toml").read_text() + (repository / "MANIFEST.in").read_text()
    for name in ("README.md", "LICENSE", "requirements.txt", "CHANGELOG.md", "options"):
        assert name in project and name in taken, f"{name}: the package is built of it"
    lines = (repository / "Dockerfile").read_text().splitlines()
    said = {
        word: json.loads(line.removeprefix(word))
        for line in lines
        for word in ("ENTRYPOINT", "CMD")
        if line.startswith(word)
    }
    assert said["ENTRYPOINT"] == ["atbsn"]
    assert atbsn_parser().parse_args(said["CMD"]).command == "serve"


@pytest.mark.long
def test_a_wheel_brings_all_that_commands_need(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "datasets", "experiments", "results", "tests", "build", "*.egg-info", "venv")
    shutil.copytree(repository, source, ignore=ignored)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        ".",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    subprocess.run(command, cwd=source, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    for file in (repository / "options").rglob("*.yml"):
        assert (tmp_path / "site/atbsn/options/files" / file.relative_to(repository / "options")).is_file()
    for file in (repository / "atbsn/weights").glob("*.*"):
        assert (tmp_path / "site/atbsn/weights" / file.name).read_bytes() == file.read_bytes()
    assert (tmp_path / "site/atbsn/py.typed").is_file()
    code = "from atbsn.options import load_options as f; print(f('quickstart.yml').name, f('train_atbsn.yml').name)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["quickstart", "train_atbsn"]
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "mine.yml").write_text("base: quickstart.yml\nname: mine\n")
    weights = "experiments/debug_mine/models/net_latest.pth"
    for arguments in (
        ["train", "-opt", "mine.yml", "--debug", "--set", "val.val_freq=~", "datasets.train.patch_size=32"],
        ["options", "show", "apbsn.yml", "simulated.yml"],
        [
            "valid",
            "-opt",
            "test_quickstart.yml",
            "--set",
            f"path.pretrain_network={weights}",
        ],
        ["compare", "real", "-opt", "test_quickstart.yml", "--set", "val.limit=1"],
        ["sweep", "-opt", "table_s1_cpu.yml", "--dry_run"],
        ["report", "results/quickstart"],
        ["convert", weights, "net.safetensors"],
        ["options", "copy", "train_folder.yml"],
        ["prepare", "--help"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "atbsn", *arguments], cwd=empty, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)


def test_the_version_stands_in_one_place_and_is_cited(repository: Path) -> None:
    """``atbsn.__version__``; the citation and the changelog follow it."""
    assert 'version = {attr = "atbsn.__version__"}' in (repository / "pyproject.toml").read_text(encoding="utf-8")
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    newest = re.search(r"^## (\S+)", (repository / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest and newest[1] == __version__


def test_types_are_shipped(repository: Path) -> None:
    """Type checkers read the annotations of an installed package only beside ``py.typed``."""
    assert (repository / "atbsn" / "py.typed").is_file()
    assert "py.typed" in (repository / "pyproject.toml").read_text(encoding="utf-8").split("package-data]")[1]
