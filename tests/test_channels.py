"""Networks for one channel, or for more than three, from the files to denoised pictures."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from helpers.kinds import Command, WriteOptions

import atbsn
from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.weights import load, save_weights
from atbsn.data.base import ImageSet, picture_of
from atbsn.data.folder import NoisyFolder
from atbsn.data.patches import PatchDataset, to_batch
from atbsn.data.store.prepare import PatchPlan, prepare
from atbsn.metrics import psnr, ssim
from atbsn.ops.blind_spot import blind_spot_shift
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.registry import ARCHS
from atbsn.registry.build import parameter_names
from atbsn.utils.errors import UserError

MANY = [name for name in ARCHS if "channels" in parameter_names(ARCHS.get(name))]
RNG = np.random.default_rng(0)


def net_for(name: str, channels: int) -> Network:
    torch.manual_seed(0)
    return build_arch({"type": name, **ARCHS.get(name).example(), "channels": channels}).eval()


def test_the_networks_that_take_channels() -> None:
    assert {"ATBSN", "StudentA", "StudentB", "StudentC", "APBSN", "PhotoNet"} <= set(MANY)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", MANY)
@torch.no_grad()
def test_pictures_of_other_channels(name: str, channels: int, tmp_path: Path) -> None:
    net = net_for(name, channels)
    assert net.channels == channels
    noisy = torch.rand(1, channels, 33, 46, generator=torch.Generator().manual_seed(1)) * 255
    clean = net.denoise(noisy)
    assert clean.shape == noisy.shape and clean.isfinite().all()
    for options in ({"network": net.options}, {}):  # by metadata, and by the shapes
        save_weights(tmp_path / "net.pth", net.state_dict(), options)
        if options or type(net).recognise({k: tuple(v.shape) for k, v in net.state_dict().items()}) is not None:
            loaded = load(tmp_path / "net.pth")
            assert loaded.channels == channels and torch.equal(loaded.denoise(noisy), clean)


@torch.no_grad()
def test_the_blind_spot_of_one_channel() -> None:
    net = net_for("ATBSN", 1)
    noisy = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    changed = noisy.clone()
    radius = blind_spot_shift(5) - 1
    changed[..., 32 - radius : 33 + radius, 32 - radius : 33 + radius] = 0
    assert torch.equal(net(noisy, k=5)[..., 32, 32], net(changed, k=5)[..., 32, 32])
    assert not torch.equal(net(noisy, k=5), net(changed, k=5))


@pytest.mark.parametrize("ks", [None, (0, 3)])
def test_a_network_for_one_channel_takes_every_channel_alone(ks: tuple[int, int] | None) -> None:
    net = net_for("ATBSN", 1)
    image = RNG.integers(0, 256, (40, 52, 3), np.uint8)
    clean = atbsn.denoise(net, image, k=3)
    for channel in range(3):
        alone = atbsn.denoise(net, image[..., channel : channel + 1], k=3)
        assert np.abs(clean[..., channel : channel + 1].astype(int) - alone).max() <= 1
    grey = np.repeat(image[..., :1], 3, axis=2)
    clean = atbsn.denoise(net, grey, k=3)
    assert (clean == clean[..., :1]).all() and np.array_equal(clean[..., :1], atbsn.denoise(net, grey[..., :1], k=3))


def test_a_network_for_other_channels_says_so() -> None:
    with pytest.raises(
        UserError, match=r"a picture of 3 channels: this StudentA is for 4; use one .*channels: 3, or with 1"
    ):
        atbsn.denoise(net_for("StudentA", 4), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match=r"shape \(8, 8, 5\) is not \(H, W, 4\)"):
        atbsn.denoise(net_for("StudentA", 4), np.zeros((8, 8, 5), np.uint8))


class Planes(ImageSet):
    """Pictures of any number of channels, in memory."""

    def __init__(self, *pictures: np.ndarray) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def key(self, index: int) -> str:
        return str(index)

    def size(self, index: int) -> tuple[int, int]:
        height, width, _ = self.pictures[index].shape
        return height, width

    def read(self, index: int) -> Picture:
        return picture_of(self.pictures[index])


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_patches_have_the_channels_of_the_network(channels: int, tmp_path: Path) -> None:
    images = Planes(*(RNG.integers(0, 2**16, (40, 40, channels), np.uint16) for _ in range(3)))
    prepare(images, tmp_path / "set.lmdb", PatchPlan.make(images, None, None, "raw"), num_workers=1)
    for each in (images, NoisyFolder(tmp_path / "set.lmdb", "lmdb")):
        patches = PatchDataset(each, 40, use_flip=False, use_rot=False, channels=channels)
        sample = patches[0]
        noisy = to_batch(torch.utils.data.default_collate([sample]), "cpu")["noisy"]
        assert noisy.shape == (1, channels, 40, 40)
        expected = images.pictures[sample["index"]].astype(np.float32) / 257
        assert torch.equal(noisy[0], torch.from_numpy(expected).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("found", "channels", "remedy"),
    [
        ((3,), 1, "pictures of 3 channels, but the network is for 1; set network.channels: 3"),
        ((1, 3), 1, "pictures of 1 and 3 channels, but the network is for 1; set network.channels: 3"),
        ((5,), 3, "pictures of 5 channels, but the network is for 3; set network.channels: 5"),
        ((1,), 5, "pictures of 1 channels, but the network is for 5; set network.channels: 1, or 3"),
        ((1, 5), 5, "pictures of 1 and 5 channels, but the network is for 5; train on pictures of one kind"),
    ],
)
def test_patches_of_other_channels(found: tuple[int, ...], channels: int, remedy: str) -> None:
    images = Planes(*(np.zeros((16, 16, count), np.uint8) for count in found))
    with pytest.raises(UserError, match=remedy):
        PatchDataset(images, 16, channels=channels)


def test_metrics_of_any_number_of_channels() -> None:
    image, reference = (RNG.uniform(0, 255, (32, 32, 5)) for _ in range(2))
    assert psnr(image, reference) == pytest.approx(
        10 * np.log10(255**2 / np.mean((np.floor(image + 0.5) - np.floor(reference + 0.5)) ** 2))
    )
    each = [
        ssim(np.repeat(image[..., [channel]], 3, axis=2), np.repeat(reference[..., [channel]], 3, axis=2), "rgb")
        for channel in range(5)
    ]
    assert ssim(image, reference, "rgb") == pytest.approx(np.mean(each))
    with pytest.raises(UserError, match=r"give two \(H, W, 3\) arrays"):
        ssim(image, reference, "y")


def test_default_metrics_on_a_stack_of_five_channels(
    command: Command, write_options: WriteOptions, tmp_path: Path
) -> None:
    """SSIM's default is of luma, which is of RGB: of other channels it is that of each, and is called so."""
    for name in ("noisy", "clean"):
        planes = RNG.integers(0, 2**12, (1, 5, 32, 32), np.uint16)
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", planes, metadata={"axes": "ZCYX"}, photometric="minisblack")
    paths = {"dataroot": "noisy.ome.tif", "dataroot_clean": "clean.ome.tif"}
    val = {"type": "Stack", "channels": "together", "white": 4095, **paths}
    net = net_for("ATBSN", 5)
    save_weights(tmp_path / "net.pth", net.state_dict(), {"network": net.options})
    options = write_options(network={"channels": 5}, path={"pretrain_network": "net.pth"}, datasets={"val": val})
    status, output = command("valid", "-opt", options)
    assert status == 0 and "ssim: ssim (Gaussian 11x11, each channel, clipped, rounded)" in output, output
    assert "each channel" in (tmp_path / "results/tiny/val/means.csv").read_text()


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_files_through_train_valid_and_test(
    command: Command, write_options: WriteOptions, tmp_path: Path, bits: int
) -> None:
    """A network for one channel is trained, validated and used on grey files; what is written is grey and as deep."""
    dtype = np.uint8 if bits == 8 else np.uint16
    for name in ("Noisy/a", "GT/a"):
        write_picture(tmp_path / f"pairs/{name}.png", picture_of(RNG.integers(0, 2**bits, (40, 44, 1), dtype)))
    pairs = {"type": "PairedFolder", "dataroot": str(tmp_path / "pairs")}
    options = write_options(
        datasets={
            "train": {**pairs, "patch_size": 32, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0},
            "val": pairs,
            "test": {"type": "NoisyFolder", "dataroot": str(tmp_path / "pairs" / "Noisy")},
        },
        network={"type": "ATBSN", "width": 4, "channels": 1},
        model={"type": "BSNModel", "k_train": 5, "k_test": 3},
        val={"val_freq": 2},
    )
    root = f"path.root={tmp_path / 'runs'}"
    status, output = command("train.py", "-opt", options, "--set", root, "train.total_iter=2", "name=grey")
    assert status == 0, output
    weights = f"path.pretrain_network={tmp_path / 'runs/experiments/grey/models/net_latest.pth'}"
    status, output = command("test.py", "-opt", options, "--set", root, weights, "name=grey")
    assert status == 0, output
    (written,) = (tmp_path / "runs" / "results" / "grey").rglob("a.png")
    result = read_picture(written)
    assert result.grey and result.rgb.dtype == dtype and result.rgb.shape == (40, 44, 3)
