"""Authors' own weight files of other methods load by name, and under any of their layouts."""

import golden
import pytest
import torch
from safetensors.torch import save_file

import atbsn
from atbsn.archs import build_arch
from atbsn.archs.weights import load_weights, network_class

FILES = {
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
def test_authors_files_load_by_name(stem, assets):
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


def test_apbsns_checkpoint(assets, tmp_path):
    weights, _ = golden.read(assets, "apbsn_width16")
    masks = {f"bsn.branch{n}.body.0.mask": torch.ones_like(weights[f"bsn.branch{n}.body.0.weight"]) for n in (1, 2)}
    checkpoint = {"epoch": 20, "model_weight": {"denoiser": weights | masks}, "optimizer_weight": {}}
    torch.save(checkpoint, tmp_path / "apbsn.pth")
    net = atbsn.load(tmp_path / "apbsn.pth")
    assert type(net).__name__ == "APBSN"
    assert all(torch.equal(net.state_dict()[name], weights[name]) for name in weights)


def test_sdaps_mask_buffers(assets, tmp_path):
    weights, _ = golden.read(assets, "sdap_width16")
    masks = {f"branch{n}.body.0.mask": torch.ones_like(weights[f"branch{n}.body.0.weight"]) for n in (1, 2)}
    save_file(weights | masks, tmp_path / "sdap.safetensors")
    assert type(atbsn.load(tmp_path / "sdap.safetensors")).__name__ == "SDAP"
