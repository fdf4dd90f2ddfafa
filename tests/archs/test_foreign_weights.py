"""Authors' own weight files of other methods load by name, and under any of their layouts."""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import golden
from helpers.kinds import Command
from safetensors.torch import save_file

import atbsn
from atbsn.archs import build_arch, lookalikes
from atbsn.archs.aprbsn import APRBSN
from atbsn.archs.foreign import under_our_names
from atbsn.archs.lookalikes import likeliest
from atbsn.archs.sass import LAN
from atbsn.archs.students import StudentC
from atbsn.archs.weights import load, load_weights, network_class, save_weights
from atbsn.engine.convert import convert
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.errors import UserError

FILES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "apbsn_width16": ("APBSN", "y_pd2", {"refine": 0}, 1),
    "sdap_width16": ("SDAP", "y", {}, 255),
    "n2n_width8": ("UNet", "y", {}, 255),
    "b2u_width8": ("UNet", "f", {}, 255),
    "sass_bnn_width8": ("ATBSN", "y", {"k": 9}, 1),
    "sass_lan": ("LAN", "y", {}, 1),
    "sass_unet_width8": ("UNet", "y", {}, 1),
}


@pytest.mark.parametrize("stem", FILES)
@torch.no_grad()
def test_authors_files_load_by_name(stem: str, assets: Path) -> None:
    name, output, how, scale = FILES[stem]
    path = assets / f"{stem}.weights.safetensors"
    _, expected = golden.read(assets, stem)
    net = atbsn.load(path).float()
    assert type(net).__name__ == name and network_class(path) is type(net)
    clean = net.denoise(expected["x"] * scale, **how) / scale
    torch.testing.assert_close(clean, expected[output], rtol=0, atol=1e-3 if scale == 1 else 1e-5)
    again = build_arch(net.options)
    load_weights(again, path)
    assert all(torch.equal(a.float(), b.float()) for a, b in zip(again.parameters(), net.parameters(), strict=True))


def test_apbsns_checkpoint(assets: Path, tmp_path: Path) -> None:
    weights, _ = golden.read(assets, "apbsn_width16")
    masks = {f"bsn.branch{n}.body.0.mask": torch.ones_like(weights[f"bsn.branch{n}.body.0.weight"]) for n in (1, 2)}
    checkpoint = {"epoch": 20, "model_weight": {"denoiser": weights | masks}, "optimizer_weight": {}}
    torch.save(checkpoint, tmp_path / "apbsn.pth")
    net = atbsn.load(tmp_path / "apbsn.pth")
    assert type(net).__name__ == "APBSN"
    assert all(torch.equal(net.state_dict()[name], weights[name]) for name in weights)


def test_sdaps_mask_buffers(assets: Path, tmp_path: Path) -> None:
    weights, _ = golden.read(assets, "sdap_width16")
    masks = {f"branch{n}.body.0.mask": torch.ones_like(weights[f"branch{n}.body.0.weight"]) for n in (1, 2)}
    save_file(weights | masks, tmp_path / "sdap.safetensors")
    assert type(atbsn.load(tmp_path / "sdap.safetensors")).__name__ == "SDAP"


# --- wrappers --------------------------------------------------------------------------------------------------------

OPTIMIZER = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
WRAPPED = {
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": OPTIMIZER, "iter": 3},
    "model": lambda state: {"model": state, "optimizer": OPTIMIZER, "epoch": 1},
    "net": lambda state: {"net": {f"module.{name}": t for name, t in state.items()}, "best_psnr": 37.5},
    "GAN": lambda state: {"discriminator": {"conv.weight": torch.zeros(1)}, "generator": state},
    "averaged": lambda state: {"model": {n: t + 1 for n, t in state.items()}, "model_ema": state},
    "a name of one's own": lambda state: {"best_of_fold_3": state, "args": "--lr 1e-4"},
    "Lightning": lambda state: {"state_dict": {f"model.{name}": t for name, t in state.items()}, "loops": {}},
    "Lightning, in parallel": lambda state: {"state_dict": {f"net.module.{n}": t for n, t in state.items()}},
    "Lightning, compiled": lambda state: {"state_dict": {f"model._orig_mod.{n}": t for n, t in state.items()}},
}


@pytest.mark.parametrize("layout", WRAPPED)
def test_wrappers(tmp_path: Path, layout: str) -> None:
    state = LAN(1).state_dict()
    torch.save(WRAPPED[layout](state), tmp_path / "net.pth")
    again = LAN(1)
    load_weights(again, tmp_path / "net.pth")
    for net in (load(tmp_path / "net.pth"), again):
        assert type(net) is LAN and all(torch.equal(net.state_dict()[name], state[name]) for name in state)


def test_what_stands_beside_the_network_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = {f"model.{name}": tensor for name, tensor in LAN(1).state_dict().items()}
    torch.save({"state_dict": {**state, "loss.vgg.0.weight": torch.zeros(2)}}, tmp_path / "lightning.ckpt")
    with caplog.at_level(logging.WARNING, "atbsn"):
        assert type(load(tmp_path / "lightning.ckpt")) is LAN
    assert "lightning.ckpt: holds 1 tensors beside the network, left out: loss.vgg.0.weight" in caplog.text


def test_several_networks_of_unknown_names(tmp_path: Path) -> None:
    torch.save({"coarse": {"a": torch.zeros(1)}, "fine": {"a": torch.zeros(1)}}, tmp_path / "two.pth")
    with pytest.raises(UserError, match=r"several sets of tensors \(coarse, fine\).*save the one that denoises"):
        load(tmp_path / "two.pth")


# --- files that are something else ------------------------------------------------------------------------------------

DISGUISED = {
    "pointer.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4025343\n",
                    "Git LFS pointer.*pull"),
    "page.pth": (b"\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>",
                 r"a web page \(Google Drive - Virus scan warning\), not weights.*browser"),
    "page.safetensors": (b"<html><body>404</body></html>", "a web page, not weights"),
    "denied.ckpt": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page, not weights"),
    "nothing.pth": (b"", "an empty file; download it again"),
    "model.ckpt.index": (b"\x00\x01", "index of a TensorFlow checkpoint; atbsn convert"),
}  # fmt: skip


@pytest.mark.parametrize("name", DISGUISED)
def test_what_is_no_weight_file_is_named(tmp_path: Path, name: str) -> None:
    content, message = DISGUISED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: .*{message}"):
        load(tmp_path / name)


def test_pickled_objects_are_named(tmp_path: Path) -> None:
    torch.save({"params": {}, "args": argparse.Namespace(lr=1)}, tmp_path / "objects.pth")
    with pytest.raises(UserError, match=r"Python objects \(argparse.Namespace\).*never executed.*state_dict"):
        load(tmp_path / "objects.pth")


# --- networks of the same names ---------------------------------------------------------------------------------------


def trained() -> dict[str, Any]:
    """A StudentC on [0, 255] that has learned the very pictures of the trial, with biases that matter."""
    torch.manual_seed(0)
    net = StudentC(4)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.uniform_(parameter, -30, 30)
    clean, noisy = lookalikes._pictures(3)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        F.mse_loss(net(noisy), clean).backward()
        optimizer.step()
    return net.state_dict()


def test_the_range_of_bare_weights_is_found_by_trying(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A network on [0, 1] that does the same as one on [0, 255] has biases of a 255th, and is the same otherwise."""
    wide = trained()
    unit = {name: tensor / 255 if name.endswith("bias") else tensor for name, tensor in wide.items()}
    for state, scale in ((wide, 1.0), (unit, 255.0)):
        torch.save(state, tmp_path / "net.pth")
        caplog.clear()
        with caplog.at_level(logging.WARNING, "atbsn"):
            assert load(tmp_path / "net.pth").scale == scale
        assert "net.pth: fits networks of the same names and shapes alike; taken for" in caplog.text
        caplog.clear()
        with caplog.at_level(logging.WARNING, "atbsn"):
            assert (
                load(tmp_path / "net.pth", {"type": "StudentC", "width": 4, "scale": 256 - scale}).scale == 256 - scale
            )
        assert "but these weights look like those of" in caplog.text


def test_a_network_that_is_named_is_taken_at_its_word(tmp_path: Path, assets: Path) -> None:
    weights, pictures = golden.read(assets, "student_c_width8")
    unit = {name: t / 255 if name.endswith("bias") else t for name, t in weights.items()}
    torch.save({"model_state_dict": unit}, tmp_path / "unit.pth")
    named = {"type": "StudentC", "width": 8, "scale": 255}
    convert(tmp_path / "unit.pth", tmp_path / "named.safetensors", named)
    for net in (load(tmp_path / "unit.pth", named), load(tmp_path / "named.safetensors")):
        with torch.no_grad():
            torch.testing.assert_close(net(pictures["x0"]), pictures["y0"], rtol=0, atol=2e-3)
    with pytest.raises(UserError, match="weights of another network"):
        load(tmp_path / "unit.pth", {"type": "NBSN"})


def test_a_name_is_enough_and_the_shapes_tell_the_rest(tmp_path: Path, assets: Path) -> None:
    weights, pictures = golden.read(assets, "student_c_width8")
    torch.save(weights, tmp_path / "bare.pth")
    for named in ("StudentC", {"type": "StudentC", "scale": 1.0}):
        net = load(tmp_path / "bare.pth", named)
        assert net.options["width"] == 8 and net.scale == 1
        with torch.no_grad():
            torch.testing.assert_close(net(pictures["x0"]), pictures["y0"], rtol=0, atol=2e-3)
    save_weights(tmp_path / "told.pth", weights, {"network": {"type": "StudentC", "width": 8, "scale": 255.0}})
    assert load(tmp_path / "told.pth", "StudentC").scale == 255, "what the file says goes before a default"
    with pytest.raises(UserError, match="made with scale 255"):
        load(tmp_path / "told.pth", {"type": "StudentC", "scale": 1.0})
    with pytest.raises(UserError, match="'StudentD' is not a registered architecture; did you mean 'Student"):
        load(tmp_path / "bare.pth", "StudentD")


def test_the_command_takes_a_network_by_name(command: Command, tmp_path: Path, assets: Path) -> None:
    weights, _ = golden.read(assets, "student_c_width8")
    torch.save(weights, tmp_path / "bare.pth")
    write_picture(tmp_path / "a.png", Picture(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)))
    made = []
    for named in ("StudentC", "{type: StudentC, scale: 255}"):
        status, said = command("denoise", "a.png", "--overwrite", "--weights", "bare.pth", "--network", named)
        assert status == 0, said
        made.append(read_picture("a_clean.png").rgb)
    by_name, scaled = made
    assert not np.array_equal(by_name, scaled)
    status, said = command("denoise", "a.png", "--overwrite", "--weights", "bare.pth", "--network", "3")
    assert status == 2 and "--network 3: no network" in said


def test_aprrds_teacher_and_atbsn_look_alike() -> None:
    assert build_arch({"type": "ATBSN", "width": 4}).lookalikes({"width": 4}) == [{"type": "APRBSN", "width": 4}]
    state = build_arch({"type": "ATBSN", "width": 4}).state_dict()
    assert APRBSN.convert_state(state).keys() == APRBSN(4).state_dict().keys()
    assert under_our_names(APRBSN.recognise, state, own="bsn.", foreign=()) is None


def test_untrained_weights_are_taken_for_the_first(assets: Path) -> None:
    weights, _ = golden.read(assets, "student_c_width8")
    first, other = {"type": "StudentC", "width": 8}, {"type": "StudentC", "width": 8, "scale": 255.0}
    assert likeliest(first, [other], weights).options == first
