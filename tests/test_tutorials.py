"""Every command and every piece of Python in docs/tutorials/, in order, in an empty folder with a few pictures."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers.exporting import skip_without_exporter
from helpers.kinds import Command

from atbsn.pictures import Picture, read_picture, write_picture

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "tutorials"
SHORTER = {"train": "--set train.total_iter=2 train.optim.lr=1e-3", "adapt": "--minutes 0.1"}
"""What takes the place of ``--minutes N``, so that a test is one of seconds."""
SMALLER = {
    "train": "datasets.train.patch_size=64 datasets.train.batch_size_per_gpu=1 datasets.train.num_worker_per_gpu=0",
}
"""What is laid over the options of trainings besides."""


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of the blocks that are run; one without a language is only shown."""
    return re.findall(r"```(bash|python)\n(.*?)```", (FOLDER / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)


def words_of(line: str) -> list[str]:
    """A command line as the test runs it."""
    program, name, *rest = shlex.split(line, comments=True)
    assert program == "atbsn"
    text = shlex.join(rest)
    if name in SHORTER:
        assert "--minutes" in text, "a training of a tutorial says how long it takes"
        text = re.sub(r"--minutes \d+", SHORTER[name], text)
    if name in SMALLER:
        text += f" --set {SMALLER[name]}"
    return [name, *shlex.split(text)]


@pytest.fixture
def holiday(tmp_path: Path) -> Path:
    """``photo.jpg`` and ``holiday/``: noisy ramps of 192 x 256 pixels."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(40, 200, 256)[None, :, None] + np.array([0.0, 10.0, -10.0])
    for name in ("photo.jpg", "holiday/one.jpg", "holiday/two.jpg"):
        noisy = ramp + rng.normal(0, 9, (192, 256, 3))
        write_picture(tmp_path / name, Picture(noisy.round().clip(0, 255).astype(np.uint8)))
    return tmp_path


def follow(page: str, command: Command) -> str:
    """Run a tutorial; what its commands said."""
    said = []
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, f"{page}.md", "exec"), {})
            continue
        for line in text.strip().splitlines():
            status, output = command(*words_of(line))
            assert status == 0, (line, output)
            said.append(output)
    return "\n".join(said)


def test_every_page_is_followed() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {"photographer", "engineer", "researcher"}
    assert all(blocks(path.stem) for path in FOLDER.glob("*.md"))


def test_the_photographers(holiday: Path, command: Command) -> None:
    said = follow("photographer", command)
    assert re.search(r"noise \d+\.\d -> \d+\.\d", said) and "real-strong" in said
    noisy, clean, softer = (read_picture(holiday / f"{name}.jpg").rgb for name in ("photo", "photo_clean", "softer"))
    assert clean.std(axis=0).mean() < softer.std(axis=0).mean() < noisy.std(axis=0).mean()
    assert (holiday / "photo_compare.png").is_file() and (holiday / "mine.pth").is_file()
    assert sorted(path.name for path in (holiday / "clean").iterdir()) == ["one_clean.jpg", "two_clean.jpg"]


def test_the_engineers(holiday: Path, command: Command) -> None:
    skip_without_exporter()
    follow("engineer", command)
    assert (holiday / "student.onnx").is_file() and (holiday / "out.jpg").is_file()


@pytest.mark.long
def test_the_researchers(holiday: Path, command: Command) -> None:
    said = follow("researcher", command)
    assert "psnr" in said.lower() and "APBSN" in said
    assert (holiday / "experiments/holiday/models/net_latest.pth").is_file()
