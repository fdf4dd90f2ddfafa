"""How test.py lays a network over pictures: precision, compilation, tiles."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from atbsn.archs import build_arch
from atbsn.engine.inference import Denoiser
from atbsn.engine.optimization import resolve_precision
from atbsn.models.base import Model
from atbsn.options.schema import Test as Options

CPU = torch.device("cpu")


@pytest.mark.parametrize(("capabilities", "precision"), [({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "fp32")])
def test_auto_is_bf16_where_the_cpu_has_it(capabilities, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert resolve_precision("auto", CPU) == precision
    assert resolve_precision("fp32", CPU) == "fp32"


@pytest.mark.parametrize("name", ["StudentC", "CBSN"])
def test_compiled_once_for_all_tiles_and_pictures(name, monkeypatch):
    counter = CompileCounter()
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda net, **how: compile_module(net, backend=counter, **how))
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = build_arch({"type": name, "width": 2}).eval()
    options = {"tile": 64, "overlap": 16, "precision": "fp32"}
    plain = Denoiser(Model(net), CPU, Options(**options), patch_size=None)
    compiled = Denoiser(Model(copy.deepcopy(net)), CPU, Options(**options, compile=True), patch_size=None)
    for size in ((96, 160), (130, 64)):
        noisy = torch.rand(1, 3, *size) * 255
        torch.testing.assert_close(compiled(noisy), plain(noisy))
    assert counter.frame_count == 1
