"""Folders of raw files: read, learned from, denoised."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from helpers.kinds import Command, WriteOptions
from helpers.raw_files import BLACK, WHITE, linear, write_dng, write_mosaic

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.data import build_dataset
from atbsn.data.patches import PatchDataset
from atbsn.data.raw import RawFolder, SIDDRawValidation
from atbsn.pictures import read_raw, write_picture
from atbsn.utils.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Raw files of two sizes, a picture, and one of another sensor."""
    pytest.importorskip("rawpy")
    root = tmp_path / "raws"
    (root / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    write_dng(root / "a.dng", (linear() + rng.normal(0, 0.02, (96, 128, 3))).clip(0, 1))
    write_mosaic(root / "sub" / "b.DNG", rng.integers(BLACK, WHITE, (97, 101)).astype(np.uint16))
    (root / "c.jpg").write_bytes(b"not looked at")
    return root


def test_a_folder_of_raws(folder: Path) -> None:
    images = build_dataset({"type": "RawFolder", "dataroot": str(folder)})
    assert [images.key(index) for index in range(len(images))] == ["a", "sub/b"]
    assert [images.size(index) for index in range(2)] == [(48, 64), (49, 51)]
    assert images.channels() == {4} and images.suffix(1) == ".dng" and images.source(0) == folder / "a.dng"
    assert np.array_equal(images.read(0).rgb, read_raw(folder / "a.dng").rgb)


def test_other_sensors_are_left_out_of_a_training(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells = tuple(map("RGB".index, "GBGGRGRGRBGBGBGGRGGRGGBGBGBRGRGRGGBG"))
    trans = (33421, 3, 2, (6, 6), True), (33422, 1, 36, cells, True)
    write_mosaic(folder / "x.dng", np.full((60, 60), 1000, np.uint16), (1, 1, 1), *trans)
    patches = PatchDataset(RawFolder(folder), 32, use_flip=False, use_rot=False, channels=4)
    assert len(patches) == 2 and patches[0]["noisy"].dtype == torch.float32
    assert "x.dng" in caplog.text and "X-Trans" in caplog.text


def test_what_is_no_folder_of_raws(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such file or folder"):
        RawFolder(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"c\.jpg: no raw file in it \(\.arw, "):
        RawFolder(folder / "c.jpg")
    with pytest.raises(UserError, match=r"pictures of 4 channels, but the network is for 3; set network\.channels: 4"):
        PatchDataset(RawFolder(folder), 32)


def test_sidd_as_published(tmp_path: Path) -> None:
    """MATLAB v7.3, whose axes are reversed; a Galaxy S6 begins with a green pixel."""
    h5py = pytest.importorskip("h5py")
    scene = tmp_path / "0001_001_S6_00100_00060_3200_L"
    scene.mkdir()
    values = np.random.default_rng(0).uniform(-0.01, 1, (60, 80)).astype(np.float32)
    for kind in ("NOISY", "GT"):
        with h5py.File(scene / f"0001_{kind}_RAW_010.MAT", "w") as file:
            file["x"] = values.T
    images = RawFolder(tmp_path)
    assert len(images) == 1 and images.key(0) == "0001_001_S6_00100_00060_3200_L/0001_NOISY_RAW_010"
    picture = images.read(0)
    assert images.size(0) == picture.rgb.shape[:2] == (30, 41)
    assert np.array_equal(picture.rgb[:, :40, 1], 255 * values[::2, ::2])
    assert np.array_equal(picture.rgb[:, 1:, 2], 255 * values[1::2, 1::2])
    write_picture(tmp_path / "a.dng", picture)
    again = read_raw(tmp_path / "a.dng")
    assert again.mosaic.size == (60, 80) and np.abs(again.rgb - picture.rgb.clip(0)).max() < 0.01
    scene.rename(tmp_path / "mine")
    with pytest.raises(UserError, match=r"no folder above it tells the phone"):
        RawFolder(tmp_path / "mine").read(0)


SCENES = ("0001_001_S6_00100_00060_3200_L", "0010_002_IP_00800_00100_3200_N")


@pytest.fixture
def blocks(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """SIDD's validation blocks in small, as they are published, with the names of their scenes."""
    rng = np.random.default_rng(0)
    clean = rng.uniform(0, 1, (2, 3, 32, 32)).astype(np.float32)
    noisy = clean + rng.normal(0, 0.05, clean.shape).astype(np.float32)
    for kind, values in (("Noisy", noisy), ("Gt", clean)):
        name = f"Validation{kind}BlocksRaw"
        scipy.io.savemat(tmp_path / f"{name}.mat", {name: values}, do_compression=True)
    (tmp_path / "scenes.txt").write_text("\n".join(SCENES))
    return noisy, clean


def test_sidds_raw_blocks(
    blocks: tuple[np.ndarray, np.ndarray], tmp_path: Path, command: Command, write_options: WriteOptions
) -> None:
    noisy, clean = blocks
    data = {"type": "SIDDRawValidation", "dataroot": str(tmp_path), "scenes": str(tmp_path / "scenes.txt")}
    images = build_dataset(data)
    assert len(images) == 6 and images.key(4) == "01_01" and images.channels() == {4}
    assert images.groups(0) == {"instance": SCENES[0], "scene": "001", "phone": "S6", "iso": "100"}
    assert (
        (images.size(0), images.size(4)) == ((16, 17), (16, 16)) == tuple(images.read(i).rgb.shape[:2] for i in (0, 4))
    )
    assert np.array_equal(images.read(4).rgb[..., 0], 255 * noisy[1, 1, ::2, ::2]), "an iPhone begins with red"
    assert np.array_equal(images.read_clean(4).rgb[..., 3], 255 * clean[1, 1, 1::2, 1::2])
    assert np.array_equal(images.read(2).rgb[:, :16, 1], 255 * noisy[0, 2, ::2, ::2]), "a Galaxy S6 with green"
    weights = {"pretrain_network": str(tmp_path / "net.pth")}
    net = build_arch({"type": "ATBSN", "width": 2, "channels": 4})
    save_weights(tmp_path / "net.pth", net.state_dict(), {"network": net.options})
    options = write_options(network={"channels": 4}, path=weights, datasets={"val": data, "test": data})
    status, said = command("valid", "-opt", options)
    assert status == 0 and "psnr" in said and "phone" in said, said
    status, said = command("test", "-opt", options, "--output", tmp_path / "out")
    assert status == 0 and read_raw(tmp_path / "out" / "01_01.dng").mosaic.size == (32, 32), said


def test_what_are_no_raw_blocks(blocks: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    scenes = tmp_path / "scenes.txt"
    scenes.write_text(f"{SCENES[0]}\n0010_002_XX_00800_00100_3200_N")
    with pytest.raises(UserError, match=r"0010_002_XX_.*is of no phone of SIDD's \(GP, IP, S6, N6, G4\)"):
        SIDDRawValidation(tmp_path, scenes)
    scenes.write_text(SCENES[0])
    with pytest.raises(UserError, match="1 scenes for 2 images"):
        SIDDRawValidation(tmp_path, scenes)
    name = "ValidationGtBlocksRaw"
    scipy.io.savemat(tmp_path / f"{name}.mat", {name: blocks[1][:1]})
    with pytest.raises(UserError, match=r"Gt.*1 x 3 x 32 x 32, but ValidationNoisy.* has 2 x 3 x 32 x 32"):
        SIDDRawValidation(tmp_path, scenes)
    scipy.io.savemat(tmp_path / f"{name}.mat", {name: blocks[1].astype(np.float64)})
    with pytest.raises(UserError, match=r"no single variable 'ValidationGtBlocksRaw'; found: .*double"):
        SIDDRawValidation(tmp_path, scenes)


@pytest.mark.parametrize(
    ("network", "model", "patch_size"),
    [
        ({"type": "ATBSN", "width": 4}, {"type": "BSNModel", "k_train": 5, "k_test": 3}, 32),
        ({"type": "PhotoNet", "widths": [4, 4], "blocks": 1, "middle_blocks": 1},
         {"type": "RecorruptModel", "num_crops": 8, "own_models": 2}, 32),
    ],
)  # fmt: skip
def test_raws_are_learned_from_and_denoised(
    command: Command,
    write_options: WriteOptions,
    folder: Path,
    tmp_path: Path,
    network: dict[str, Any],
    model: dict[str, Any],
    patch_size: int,
) -> None:
    """Without a clean one, by 4 channels; what comes out are DNGs."""
    data = {"type": "RawFolder", "dataroot": str(folder)}
    loader = {"use_flip": False, "use_rot": False, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    options = write_options(
        datasets={"train": {**data, **loader, "patch_size": patch_size}, "val_alone": data, "test": data},
        network={**network, "channels": 4}, model=model, val={"val_freq": 2, "save_img": 1},
    )  # fmt: skip
    root = f"path.root={tmp_path / 'runs'}"
    status, output = command("train.py", "-opt", options, "--set", root, "train.total_iter=2", "name=raw")
    assert status == 0, output
    assert list((tmp_path / "runs" / "experiments" / "raw" / "visualization").rglob("*.png"))
    weights = f"path.pretrain_network={tmp_path / 'runs/experiments/raw/models/net_latest.pth'}"
    status, output = command("test.py", "-opt", options, "--set", root, weights, "name=raw")
    assert status == 0, output
    results = tmp_path / "runs" / "results" / "raw" / "test"
    for name in ("a.dng", "sub/b.dng"):
        noisy, clean = read_raw(next(folder.glob(f"{name[:-4]}.*"))), read_raw(results / name)
        assert clean.mosaic.size == noisy.mosaic.size and clean.mosaic.phase == noisy.mosaic.phase
        if network["type"] == "PhotoNet":  # it begins by changing nothing, and makes two small steps
            assert np.abs(clean.rgb - noisy.rgb.clip(0, 255)).max() < 3
