"""An installed package works outside of the checkout: option files and weights travel with it."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest


@pytest.mark.long
def test_a_wheel_brings_option_files_and_weights(repository, tmp_path):
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
    code = "from atbsn.options import load_options as f; print(f('quickstart.yml').name, f('train_atbsn.yml').name)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["quickstart", "train_atbsn"]
