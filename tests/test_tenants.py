"""What every registered network, training method and data set must do: whatever is registered is tested here.

``python -m pytest tests/test_tenants.py -k MyNet --plugin mynet.py`` tests one that is not in the package.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.exporting import skip_without_exporter
from helpers.kinds import Command, WriteOptions
from helpers.methods import built, method
from torch import nn
from torch.utils.data import default_collate

import atbsn
from atbsn.archs import build_arch
from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.archs.weights import save_weights
from atbsn.data import build_dataset
from atbsn.data.patches import PatchDataset, to_batch
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.finish import split_settings
from atbsn.engine.inference.plan import ComputeOptions
from atbsn.engine.inference.tiling import Tiler
from atbsn.pictures import Picture, picture_size, write_picture
from atbsn.registry import ARCHS, DATASETS, MODELS
from atbsn.registry.build import with_defaults
from atbsn.utils.errors import UserError

NETWORKS = {name: ARCHS.get(name) for name in ARCHS}
HOLED = [name for name, net in NETWORKS.items() if issubclass(net, BlindSpotNetwork)]
CPU = torch.device("cpu")


def tiny(name: str) -> Network:
    torch.manual_seed(0)
    return build_arch({"type": name, **NETWORKS[name].example()}).eval()


def picture(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 255


# --- networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (33, 46), (64, 64)])
@torch.no_grad()
def test_pictures_of_any_size(name: str, size: tuple[int, int]) -> None:
    net, noisy = tiny(name), picture(*size)
    before = noisy.clone()
    clean = net.denoise(noisy)
    assert clean.shape == noisy.shape and clean.isfinite().all()
    assert torch.equal(noisy, before), "the noisy picture is left as it is"


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_pictures_do_not_depend_on_each_other(name: str) -> None:
    net, noisy = tiny(name), picture(64, 64, batch=2)
    if net.draws():
        pytest.skip("the pictures of a batch share its random numbers")
    apart = torch.cat([net.denoise(noisy[:1]), net.denoise(noisy[1:])])
    torch.testing.assert_close(net.denoise(noisy), apart, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(64, 64), (33, 46)])  # even, where decoders are folded on the CPU, and odd
@torch.no_grad()
def test_bfloat16_keeps_grey_levels(name: str, size: tuple[int, int]) -> None:
    """Its last layer gives float32: grey levels are not rounded to eight bits."""
    net, noisy = tiny(name), picture(*size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net.denoise(noisy)
    assert output.dtype == torch.float32
    assert (output == output.bfloat16().float()).float().mean() < 0.1
    expected = net.denoise(noisy)
    assert (output - expected).square().mean() < 1e-2 * expected.square().mean()


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_tiles(name: str) -> None:
    """As in one pass where one tile holds all; of the same size and finite where it takes several."""
    net, noisy = tiny(name), picture(70, 90)
    whole = net.denoise(noisy)
    assert torch.equal(net.denoise(noisy, Tiler(1024, 32)), whole)
    tiled = net.denoise(noisy, Tiler(64, 16, batch_size=2))
    assert tiled.shape == whole.shape and tiled.isfinite().all()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_weights_are_saved_loaded_and_recognised(name: str, suffix: str, tmp_path: Path) -> None:
    net, noisy = tiny(name), picture(32, 40)
    for metadata in ({"network": net.options}, {}):
        save_weights(tmp_path / f"net{suffix}", net.state_dict(), metadata)
        loaded = atbsn.load(tmp_path / f"net{suffix}")
        assert type(loaded) is type(net)
        torch.testing.assert_close(loaded.denoise(noisy), net.denoise(noisy))


@pytest.mark.parametrize("name", NETWORKS)
def test_settings_are_checked_keywords(name: str) -> None:
    cls = NETWORKS[name]
    defaults = with_defaults(cls.denoise, {})
    assert split_settings(cls, {key: defaults[key] for key in cls.denoise_keywords()})
    with pytest.raises(UserError, match=re.escape(f"nonsense: not a setting of {name}.denoise; it has ")):
        split_settings(cls, {"nonsense": 1})


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_same_picture_comes_out_the_same(name: str) -> None:
    net, noisy = tiny(name), picture(40, 40)
    denoiser, state = Denoiser(net, {}, CPU, ComputeOptions(tile="none")), torch.get_rng_state()
    first = denoiser(noisy)
    denoiser(noisy)
    assert torch.equal(denoiser(noisy), first)
    assert torch.equal(net.denoise(noisy), net.denoise(noisy))
    assert torch.equal(torch.get_rng_state(), state), "global random numbers were drawn"


@pytest.mark.parametrize("name", HOLED)
@pytest.mark.parametrize("k", [0, 1, 3, 5, 7, 9])
def test_the_hole_by_its_gradient(name: str, k: int) -> None:
    """No output pixel has a gradient inside its k x k square, in double precision; outside it has one."""
    net = tiny(name).double()
    try:
        net.check_hole(k)
    except UserError:
        pytest.skip(f"{name} takes no hole of {k}")
    side = max(64, net.size_multiple)
    noisy = picture(side, side).double().requires_grad_()
    y, x, half = side // 2 + 1, side // 2 - 2, k // 2
    net(noisy, k=k)[0, :, y, x].sum().backward()
    influence = noisy.grad[0].abs().amax(dim=0)
    if k:
        assert not influence[y - half : y + half + 1, x - half : x + half + 1].any()
    assert influence.any()


@pytest.mark.parametrize("name", HOLED)
@torch.no_grad()
def test_a_family_is_each_of_its_holes(name: str) -> None:
    net: Any = tiny(name)
    noisy = picture(40, 52)
    ks = [k for k in (0, 1, 3, 5) if takes(net, k)]
    family = net.forward_teachers(noisy, ks)
    for k, output in zip(ks, family, strict=True):
        torch.testing.assert_close(output, net(noisy, k=k), rtol=1e-4, atol=1e-3)
    for k, output in zip(ks, net.denoise_family(noisy, ks), strict=True):
        torch.testing.assert_close(output, net.denoise(noisy, k=k), rtol=1e-4, atol=1e-3)
    with pytest.raises(UserError, match="ks is empty"):
        net.forward_teachers(noisy, ())


def takes(net: BlindSpotNetwork, k: int) -> bool:
    try:
        net.check_hole(k)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in HOLED])
def test_onnx(name: str, tmp_path: Path) -> None:
    skip_without_exporter()
    from atbsn.engine.export.onnx_file import export

    net = tiny(name)
    if net.draws():
        pytest.skip("random numbers are not exported")
    assert export(net, tmp_path / "net.onnx", {}) < 1
    assert (tmp_path / "net.onnx").is_file()


# --- training methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_a_step(name: str, progress: float, tmp_path: Path) -> None:
    model, side = built(name, tmp_path)
    model.train()
    batch = {"noisy": picture(side, side, batch=2), "index": torch.arange(2)}  # and no clean picture
    losses = model(batch, torch.tensor(progress))
    assert all(value.ndim == 0 and value.isfinite() for value in losses.values()), losses
    assert not any(value.requires_grad for key, value in losses.items() if key != "loss")
    losses["loss"].backward()
    gradients = [p.grad for p in model.net.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    assert not [name for name, _ in model.named_parameters() if not name.startswith("net.")], "the network is trained"


@pytest.mark.parametrize("name", list(MODELS))
def test_what_it_is_trained_for_suits_its_network(name: str, tmp_path: Path) -> None:
    model, side = built(name, tmp_path)
    settings = model.denoise_settings()
    assert type(model.net).check_denoise(settings) == settings
    with torch.no_grad():
        assert model.net.eval().denoise(picture(side, side), **settings).isfinite().all()


@pytest.mark.parametrize("name", list(MODELS))
def test_a_resumed_training_is_an_uninterrupted_one(
    name: str, command: Command, write_options: WriteOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit; no clean picture is read on the way, and validating changes nothing."""
    network, arguments = method(name, tmp_path)
    _, side = built(name, tmp_path)
    data = {"type": "PairedFolder", "dataroot": str(tmp_path / "pairs")}
    pairs = DATASETS.get("PairedFolder")
    rng = np.random.default_rng(0)
    for place in ("Noisy", "GT"):
        write_picture(
            tmp_path / "pairs" / place / "a.png", Picture(rng.integers(0, 256, (side + 8, side + 3, 3), np.uint8))
        )
    loader = {"patch_size": side, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
    changes: dict[str, Any] = {"datasets": {"train": {**data, **loader}}, "network": network, "model": arguments}

    def params(*overrides: str) -> dict[str, torch.Tensor]:
        options = write_options(**changes)
        overrides = (f"path.root={tmp_path / 'runs'}", "train.total_iter=4", *overrides)
        status, output = command("train.py", "-opt", options, "--set", "logger.save_checkpoint_freq=2", *overrides)
        assert status == 0, output
        run = next(o.split("=")[1] for o in overrides if o.startswith("name="))
        path = tmp_path / "runs" / "experiments" / run / "models" / "net_latest.pth"
        return torch.load(path, weights_only=True)["params"]

    with monkeypatch.context() as patch:
        patch.setattr(pairs, "read_clean", refuse)
        whole = params("name=whole")
    state = tmp_path / "runs" / "experiments" / "whole" / "training_states" / "2.state"
    changes["datasets"]["val"] = data
    resumed = params("name=resumed", f"path.resume_state={state}", "val.val_freq=1")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def refuse(*_: object) -> None:
    raise AssertionError("a clean picture was read")


# --- data sets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(DATASETS))
def test_a_set_is_named_pictures(name: str, tmp_path: Path, repository: Path) -> None:
    arguments = DATASETS.get(name).example(tmp_path)
    if arguments is None:
        tests = [path for path in (repository / "tests" / "data").rglob("*.py") if name in path.read_text()]
        assert tests, f"{name} has neither an example nor a test of its own"
        pytest.skip(f"tested in {', '.join(path.name for path in tests)}")
    images = build_dataset({"type": name, **arguments})
    keys = [images.key(index) for index in range(len(images))]
    assert keys and len(set(keys)) == len(keys)
    (channels,) = images.channels()
    for index in range(len(images)):
        rgb = images.read(index).rgb
        assert rgb.shape == (*images.size(index), channels)
        if images.has_clean:
            assert images.read_clean(index).rgb.shape == rgb.shape
    crop = images.crop(0, 3, 5, 16)
    images.preload()
    assert crop.shape == (16, 16, channels) and crop.dtype == images.depth()
    assert np.array_equal(images.crop(0, 3, 5, 16), crop)


@pytest.mark.parametrize("name", list(DATASETS))
def test_a_set_keeps_what_sixteen_bits_hold(name: str, tmp_path: Path) -> None:
    """From the file to the patch that a method is given, of one value in 257 that 8 bits hold, and of the others."""
    arguments = DATASETS.get(name).example(tmp_path)
    if not arguments or not list(tmp_path.rglob("*.png")):
        pytest.skip("has no example in files")
    rng = np.random.default_rng(0)
    for path in tmp_path.rglob("*.png"):
        write_picture(path, Picture(rng.integers(0, 2**16, (*picture_size(path), 3), np.uint16)))
    patches = PatchDataset(build_dataset({"type": name, **arguments}), 16)
    for number in range(len(patches)):
        noisy = to_batch(default_collate([patches[number]]), "cpu")["noisy"]
        assert noisy.min() >= 0 and noisy.max() <= 255
        assert ((noisy - noisy.round()).abs() > 0.01).float().mean() > 0.5


def test_something_of_each_kind_is_registered() -> None:
    assert len(NETWORKS) > 4 and len(HOLED) > 0 and len(list(MODELS)) > 2 and len(list(DATASETS)) > 4
    assert all(issubclass(net, nn.Module) for net in NETWORKS.values())


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_network_says_whether_a_pixel_depends_on_its_whole_tile(name: str) -> None:
    """What it lays over a picture, on a long one: whether a change at one end is seen 1,400 pixels away."""
    net = tiny(name)
    for parameter in net.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    laid = []
    how = {"refine": 0} if "refine" in net.denoise_keywords() else {}
    net.denoise(picture(40, 40), lambda function, x: laid.append(function) or function(x), **how)
    before = picture(40, 1600)
    after = before.clone()
    after[..., :8] = 255 - after[..., :8]
    far = [(function(before) - function(after))[..., 1480:] for function in laid]
    assert any(bool(change.abs().max() > 0) for change in far) == net.sees_whole_tile
