"""One file by every door: Python, the command, test.py with a file, a folder and a set, the page. One result."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.kinds import Command
from helpers.page_support import Visitor, write_photo

import atbsn
from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.weights import save_weights
from atbsn.engine.build import build_sets
from atbsn.engine.evaluation.evaluator import evaluate
from atbsn.engine.evaluation.validation import labelled
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.metrics.base import Metric
from atbsn.options.check import check_options
from atbsn.pictures import read_picture

NETWORKS = {
    "draws": ({"type": "APBSN", "width": 4, "num_modules": 2}, {"pd": 2, "refine": 8, "p": 0.16}),
    "has a hole": ({"type": "ATBSN", "width": 2}, {"k": 3}),
    "sees its whole tile": ({"type": "PUCA", "width": 4}, {}),
}


@pytest.fixture(params=NETWORKS)
def net(request: pytest.FixtureRequest, tmp_path: Path) -> Network:
    """A small network, whose weights are in ``net.pth``."""
    options, settings = NETWORKS[request.param]
    torch.manual_seed(0)
    made = build_arch(options)
    metadata = {"network": made.options, "denoise": settings, "patch_size": 160}
    save_weights(tmp_path / "net.pth", made.state_dict(), metadata)
    return atbsn.load(tmp_path / "net.pth")


def by_commands(command: Command, folder: Path) -> Iterator[tuple[str, Path]]:
    """What the commands make of ``noisy/a.png``, by name of the door."""
    (folder / "x.yml").write_text(
        f"name: x\nnum_gpu: 0\npath: {{pretrain_network: {folder / 'net.pth'}}}\n"
        f"datasets: {{test: {{type: NoisyFolder, dataroot: {folder / 'noisy'}}}}}\n"
    )
    test = ("test.py", "-opt", folder / "x.yml", "--output")
    ways = {
        "a file to a file": ((*test, folder / "file.png", "--input", folder / "noisy" / "a.png"), "file.png"),
        "a file to a folder": ((*test, folder / "one", "--input", folder / "noisy" / "a.png"), "one/a.png"),
        "a folder": ((*test, folder / "all", "--input", folder / "noisy"), "all/a.png"),
        "a set": ((*test, folder / "set"), "set/a.png"),
    }
    for way, (arguments, made) in ways.items():
        status, output = command(*arguments)
        assert status == 0, (way, output)
        yield way, folder / made


def test_one_file_by_every_door(net: Network, command: Command, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "noisy" / "a.png", 90, 190)
    os.utime(path, (1e9, 1e9))
    rgb = read_picture(path).rgb
    expected = atbsn.denoise(net, rgb)
    assert not np.array_equal(expected, rgb)
    files = dict(by_commands(command, tmp_path))
    (tmp_path / "another name.png").write_bytes(path.read_bytes())
    for name in ("noisy/a.png", "another name.png"):
        to = ("-o", tmp_path / "clean", "--weights", tmp_path / "net.pth")
        status, output = command("denoise", tmp_path / name, *to)
        assert status == 0, output
    files |= {"the command": tmp_path / "clean" / "a_clean.png"}
    for way, made in files.items():
        assert np.array_equal(read_picture(made).rgb, expected), way
        assert made.stat().st_mtime == 1e9, f"{way}: the date is kept"
    assert np.array_equal(read_picture(tmp_path / "clean" / "another name_clean.png").rgb, expected)
    deep = atbsn.denoise(net, rgb.astype(np.float32) / 255)
    assert np.abs(deep * 255 - expected).max() < 0.51, "as shares of 1 it draws the same numbers"


def test_the_page_is_a_door_too(net: Network, tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("httpx2")
    from starlette.testclient import TestClient

    from atbsn.app.page.application import Page
    from atbsn.app.page.studio import Limits, Studio

    path = write_photo(tmp_path / "a.png", 90, 190)
    page = Page(Studio(net, "net", Limits(), None, None))
    with TestClient(page.application(), base_url="http://127.0.0.1:7860") as client:
        visitor = Visitor(client)
        picture = visitor.opened(path)
        result = visitor.computed(f"pictures/{picture['id']}/result", settings={})
        (tmp_path / "page.png").write_bytes(visitor.fetch(result["file"]))
    assert np.array_equal(read_picture(tmp_path / "page.png").rgb, atbsn.denoise(net, read_picture(path).rgb))


def test_figures_are_of_the_same_picture(net: Network, tmp_path: Path) -> None:
    """Validation measures what the command writes, before it is rounded."""
    path = write_photo(tmp_path / "noisy" / "a.png", 90, 190)
    write_photo(tmp_path / "clean" / "a.png", 90, 190, seed=1)
    raw = {
        "name": "x",
        "num_gpu": 0,
        "path": {"pretrain_network": str(tmp_path / "net.pth")},
        "datasets": {
            "val": {
                "type": "PairedFolder",
                "dataroot": str(tmp_path / "noisy"),
                "dataroot_clean": str(tmp_path / "clean"),
            }
        },
    }
    measured: list[Any] = []
    denoise = labelled(photo_denoiser(net))
    images = build_sets(check_options(raw, "x"), "val")["val"]
    evaluate(images, denoise, {"seen": Seen(measured)}, "x")
    expected = atbsn.denoise(net, read_picture(path).rgb)
    assert np.array_equal((np.clip(measured[0], 0, 255) + 0.5).astype(np.uint8), expected)


class Seen(Metric):
    """A metric that keeps what it is given."""

    protocol = "none"

    def __init__(self, measured: list[Any]) -> None:
        self.measured = measured

    def __call__(self, output: np.ndarray, reference: np.ndarray) -> float:
        self.measured.append(output)
        return 0.0
