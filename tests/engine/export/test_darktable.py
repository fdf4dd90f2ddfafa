"""atbsn export --to darktable: what darktable reads, laid over pictures as darktable lays it, and refusals."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.exporting import skip_without_exporter
from helpers.kinds import Command

import atbsn
from atbsn.archs import build_arch
from atbsn.archs.weights import load, save_weights
from atbsn.engine.export import darktable
from atbsn.engine.export.graph import make_graph, open_graph
from atbsn.utils.errors import UserError

NAME = "denoise-atbsn-fast"
TINY = {"type": "PhotoNet", "widths": [4], "blocks": 1, "middle_blocks": 0}


class Identity:
    """A session that gives back what it gets, and remembers the sizes."""

    def __init__(self) -> None:
        self.sizes = set()

    def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[np.ndarray]:
        (noisy,) = inputs.values()
        assert outputs == ["output"] and noisy.dtype == np.float32 and noisy.flags.c_contiguous
        self.sizes.add(noisy.shape)
        return [noisy]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture in [0, 1] of a ramp with noise."""
    ramp = np.linspace(0.3, 0.7, width)[None, :, None]
    values = ramp + 0.06 * np.random.default_rng(seed).standard_normal((height, width, 3))
    return values.clip(0, 1).astype(np.float32)


@pytest.fixture(scope="session")
def onnx() -> None:
    """The packages of the extra."""
    skip_without_exporter()


@pytest.fixture(scope="session")
def packed(onnx: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that is made of the shipped weights ``fast``."""
    path = tmp_path_factory.mktemp("darktable") / f"{NAME}.dtmodel"
    found = darktable.export(load("fast"), path, {"terms": "Apache-2.0", "data": "free photographs"})
    assert found.rounding < 0.01 and found.tiles < 0.5
    return path


@pytest.fixture(scope="session")
def graph(packed: Path) -> bytes:
    with zipfile.ZipFile(packed) as archive:
        return archive.read(f"{NAME}/model.onnx")


@pytest.mark.parametrize("side", darktable.SIDES)
def test_tiles_lose_nothing(side: int) -> None:
    session = Identity()
    for height, width in ((1, 1), (40, 300), (side - 2 * darktable.OVERLAP + 1, 130)):
        picture = noise(height, width)
        assert np.array_equal(darktable.in_tiles(session, picture, side), picture)
    assert session.sizes == {(1, 3, side, side)}


def test_beyond_the_edges_stands_the_mirrored_picture() -> None:
    tiles = []

    class Keeping(Identity):
        def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[np.ndarray]:
            tiles.append(inputs["input"][0, 0, :, :])
            return super().run(outputs, inputs)

    picture = noise(5, 4)
    darktable.in_tiles(Keeping(), picture, 256)
    (tile,) = tiles
    rows, columns = [3, 4, 3, 2, 1, 0, 1, 2], [1, 2, 3, 2, 1, 0, 1, 2]  # of 5 and of 4, without the edge twice
    start = darktable.OVERLAP - 5
    expected = picture[np.ix_(rows, columns)][..., 0]
    assert np.array_equal(tile[start : start + 8, start : start + 8], expected)


def test_the_archive_is_what_darktable_reads(packed: Path, graph: bytes) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == [f"{NAME}/config.json", f"{NAME}/model.onnx"]
        described = json.loads(archive.read(f"{NAME}/config.json"))
    assert {"id": NAME, "task": "denoise", "backend": "onnx", "num_inputs": 1}.items() <= described.items()
    assert described["tiling"] is True and described["spatial_dims"] == ["height", "width"]
    assert all(isinstance(described[name], str) for name in ("name", "description", "version", "arch"))
    assert described["model_card"]["license"] == "Apache-2.0"
    assert described["model_card"]["training_data"] == "free photographs"
    session = open_graph(graph)
    ((noisy,), (clean,)) = session.get_inputs(), session.get_outputs()
    assert (noisy.name, noisy.type, noisy.shape) == ("input", "tensor(float)", [1, 3, "height", "width"])
    assert (clean.name, clean.type, clean.shape) == ("output", "tensor(float)", [1, 3, "height", "width"])


def test_the_graph_does_not_say_how_and_where_it_was_made(graph: bytes) -> None:
    assert b".py" not in graph and b"torch.ops" not in graph


def test_an_older_runtime_reads_it(graph: bytes) -> None:
    from onnx import load_from_string

    model = load_from_string(graph)
    assert model.ir_version <= 10 and model.opset_import[0].version <= 20  # darktable 5.6 comes with ONNX Runtime 1.23


SIZES = [(97, 131, 256, 1.5), (300, 420, 256, 0.5), (300, 420, 384, 0.5), (530, 200, 512, 0.5)]
"""Height, width, side of the tiles; and a bound, grey levels, within which the edges differ, about which more is
mirrored: of a picture of two by three blocks of medians they are most."""


@pytest.mark.parametrize(("height", "width", "side", "bound"), SIZES)
def test_darktables_tiles_give_what_denoise_gives(
    graph: bytes, height: int, width: int, side: int, bound: float
) -> None:
    picture = noise(height, width)
    tiles = darktable.in_tiles(open_graph(graph, (side, side)), picture, side)
    expected = atbsn.denoise(load("fast"), picture, data_range=1.0, precision="fp32")
    difference = 255 * (tiles.clip(0, 1) - expected)
    assert np.sqrt(np.mean(difference**2)) < bound
    inside = difference[80:-80, 80:-80]
    assert not inside.size or np.sqrt(np.mean(inside**2)) < 0.1
    assert np.sqrt(np.mean((255 * (tiles - picture)) ** 2)) > 8, "the noise, of 15 grey levels, is gone"


def test_colours_are_kept_in_every_tile(onnx: None) -> None:
    net: Any = build_arch(TINY).eval()
    with torch.no_grad():
        net.tail.bias.fill_(0.5)  # 16 grey levels too bright, everywhere
    graph = make_graph(net, darktable.INTERFACE, {}).SerializeToString()
    picture = np.full((300, 200, 3), 0.4, np.float32)
    output = darktable.in_tiles(open_graph(graph, (256, 256)), picture, 256)
    assert np.abs(output - picture).max() < 1e-4
    bright = net.denoise(torch.full((1, 3, 64, 64), 100.0), keep_colours=False)
    assert (bright - 116).abs().max() < 1e-2, "without keep_colours it is what the network does"


def test_settings_of_the_file_are_in_the_graph(onnx: None) -> None:
    torch.manual_seed(0)
    net: Any = build_arch(TINY).eval()
    torch.nn.init.normal_(net.tail.weight, std=0.05)
    net.denoise_settings = {"strength": 0.5, "keep_colours": False}
    session = open_graph(make_graph(net, darktable.INTERFACE, {}).SerializeToString())
    noisy = torch.from_numpy(noise(40, 50).transpose(2, 0, 1)[None].copy())
    output = torch.from_numpy(session.run(None, {"input": noisy.numpy()})[0])
    with torch.no_grad():
        expected = (noisy + net.denoise(255 * noisy, keep_colours=False) / 255) / 2
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=0)
    assert (output - noisy).abs().max() > 0.01


def test_the_command_names_the_file_after_the_weights(onnx: None, command: Command, tmp_path: Path) -> None:
    net = build_arch(TINY)
    save_weights(tmp_path / "My Camera_2.safetensors", net.state_dict(), {"network": net.options})
    status, output = command("export", "My Camera_2.safetensors", "--to", "darktable")
    assert status == 0 and "import from file" in output, output
    assert zipfile.is_zipfile(tmp_path / "denoise-atbsn-my-camera-2.dtmodel")


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a name that is no id": ({"type": "StudentA"}, "Denoise_Mine.dtmodel", "no name for a model of darktable"),
    "another suffix": ({"type": "StudentA"}, "denoise-mine.zip", "no name for a model of darktable"),
    "a blind spot": ({"type": "ATBSN", "width": 4}, "denoise-mine.dtmodel", "export the student"),
    "grey": ({"type": "StudentA", "channels": 1}, "denoise-mine.dtmodel", "darktable gives RGB"),
    "the whole picture": ({"type": "CBSN", "width": 4}, "denoise-mine.dtmodel", "darktable gives it tiles"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(onnx: None, case: str, command: Command, tmp_path: Path) -> None:
    options, name, reason = REFUSED[case]
    net = build_arch(options)
    save_weights(tmp_path / "net.pth", net.state_dict(), {"network": net.options})
    status, output = command("export", "net.pth", name, "--to", "darktable")
    assert status == 2 and reason in output and "Traceback" not in output, output
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


def test_settings_that_see_the_whole_picture_are_refused(onnx: None, tmp_path: Path) -> None:
    net = build_arch({"type": "StudentA"})
    net.denoise_settings = {"banding": True}
    with pytest.raises(UserError, match="whole picture"):
        darktable.check(net, tmp_path / "denoise-mine.dtmodel")
