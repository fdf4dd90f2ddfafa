"""The commands end to end, in seconds: a training does what its option file says and leaves what it promises."""

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.kinds import Command, WriteOptions
from safetensors.torch import load_file
from torch import nn

import atbsn
from atbsn.archs.weights import read_weights
from atbsn.engine.training.setup import captures
from atbsn.options.schema import Train
from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.errors import UserError

VAL = {"type": "SimulatedCamera", "split": "val"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of small pictures to train on."""
    rng = np.random.default_rng(0)
    for name in ("a", "sub/b"):
        write_picture(tmp_path / "pictures" / f"{name}.png", Picture(rng.integers(0, 256, (48, 40, 3), np.uint8)))
    return tmp_path / "pictures"


def test_training_leaves_what_it_promises(
    command: Command, write_options: WriteOptions, pictures: Path, tmp_path: Path
) -> None:
    folder_set = {"type": "NoisyFolder", "dataroot": str(pictures), "patch_size": 32, "batch_size_per_gpu": 2}
    options = write_options(datasets={"train": folder_set}, train={"ema_decay": 0.5})
    status, output = command("train.py", "-opt", options)
    assert status == 0, output
    folder = tmp_path / "experiments" / "tiny"
    assert sorted(path.name for path in (folder / "models").iterdir()) == ["net_3.pth", "net_6.pth", "net_latest.pth"]
    assert sorted(path.name for path in (folder / "training_states").iterdir()) == ["3.state", "6.state"]
    assert "iter 6/6" in output and "it/s" in output and "eta" in output
    content = torch.load(folder / "models" / "net_6.pth", weights_only=True)
    assert set(content) == {"params", "params_ema", "metadata"}
    family = [0, 1, 3, 5, 7, 9, 11]
    network = {"type": "ATBSN", "width": 2, "mean": 0.0, "family": family, "channels": 3}
    assert content["metadata"]["network"] == network
    assert content["metadata"]["iteration"] == 6 and content["metadata"]["k"] == 3
    assert isinstance(atbsn.load(folder / "models" / "net_6.pth"), torch.nn.Module)
    # The written options are complete: training from them again gives the same weights.
    status, output = command("train.py", "-opt", folder / "options.yml", "--set", "name=again")
    assert status == 0, output
    again = read_weights(tmp_path / "experiments" / "again" / "models" / "net_6.pth").params
    assert all(torch.equal(value, again[key]) for key, value in content["params_ema"].items())


def test_exactly_as_many_iterations_as_asked(command: Command, write_options: WriteOptions, tmp_path: Path) -> None:
    """Far more iterations than an epoch has, none of it a multiple of anything."""
    status, output = command("train.py", "-opt", write_options(train={"total_iter": 11}))
    assert status == 0, output
    assert torch.load(tmp_path / "experiments/tiny/training_states/11.state")["iteration"] == 11
    assert "iter 11/11" in output


def test_batches_and_accumulation_are_one_optimizer_step(
    command: Command, write_options: WriteOptions, tmp_path: Path
) -> None:
    """Two micro-batches of two give the step of one batch of four."""
    big = {"train": {"batch_size_per_gpu": 4}}
    assert command("train.py", "-opt", write_options(name="big.yml", datasets=big), "--set", "name=big")[0] == 0
    assert command("train.py", "-opt", write_options(), "--set", "train.accum_iter=2", "name=small")[0] == 0
    one, two = (read_weights(tmp_path / f"experiments/{n}/models/net_latest.pth").params for n in ("big", "small"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=1e-4)


def test_workers_change_nothing(command: Command, write_options: WriteOptions, tmp_path: Path) -> None:
    for workers in (0, 2):
        arguments = ("--set", f"name=w{workers}", f"datasets.train.num_worker_per_gpu={workers}")
        assert command("train.py", "-opt", write_options(), *arguments)[0] == 0
    none, two = (read_weights(tmp_path / f"experiments/w{n}/models/net_latest.pth").params for n in (0, 2))
    assert all(torch.equal(value, two[key]) for key, value in none.items())


def test_a_new_run_of_the_name_archives_the_old_one(
    command: Command, write_options: WriteOptions, tmp_path: Path
) -> None:
    options = write_options(train={"total_iter": 1})
    command("train.py", "-opt", options)
    command("train.py", "-opt", options)
    assert len(list((tmp_path / "experiments").glob("tiny_archived_*"))) == 1


def test_debug_is_short_and_has_its_own_name(command: Command, write_options: WriteOptions, tmp_path: Path) -> None:
    status, output = command("train.py", "-opt", write_options(train={"total_iter": 1000}), "--debug")
    assert status == 0 and "iter 16/16" in output and "iter 3/16" in output
    assert (tmp_path / "experiments" / "debug_tiny" / "models" / "net_16.pth").is_file()


@pytest.mark.parametrize("launcher", ["torchrun", "torch.distributed.launch"])
def test_two_processes_train_the_weights_of_one(
    launcher: str, command: Command, write_options: WriteOptions, tmp_path: Path, repository: Path
) -> None:
    """The same global batch, in one process or two, gives the same weights to float tolerance."""
    one = write_options(name="one.yml", datasets={"train": {"batch_size_per_gpu": 4}})
    assert command("train.py", "-opt", one, "--set", "name=one")[0] == 0
    module = {"torchrun": "torch.distributed.run", "torch.distributed.launch": "torch.distributed.launch"}[launcher]
    start = [sys.executable, "-m", module, "--nproc_per_node=2", f"--master_port={_free_port()}"]
    arguments = ["-opt", str(write_options()), "--launcher", "pytorch", "--set", "name=two"]
    run = subprocess.run(
        [*start, str(repository / "train.py"), *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, env=_environment(repository),
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    alone, both = (read_weights(tmp_path / f"experiments/{n}/models/net_latest.pth").params for n in ("one", "two"))
    for key, value in alone.items():
        torch.testing.assert_close(both[key], value, atol=1e-5, rtol=1e-4)


def test_validation_keeps_the_best_and_writes_numbers_and_panels(
    command: Command, write_options: WriteOptions, tmp_path: Path
) -> None:
    options = write_options(
        datasets={"val": VAL}, val={"val_freq": 3, "save_img": 1, "best_metric": "psnr"}, train={"ema_decay": 0.9}
    )
    status, output = command("train.py", "-opt", options)
    assert status == 0, output
    folder = tmp_path / "experiments" / "tiny"
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["iteration"], row["method"], row["metric"]) for row in rows} == {
        (i, w, m) for i in ("3", "6") for w in ("net", "ema") for m in ("psnr", "ssim")
    }
    assert all("clipped" in row["protocol"] for row in rows)
    best = max(float(row["value"]) for row in rows if row["method"] == "ema" and row["metric"] == "psnr")
    rule = read_weights(folder / "models" / "net_best.pth").metadata["rule"]
    assert rule.startswith("best psnr") and rule.endswith(f"{best:.4f}")
    assert read_picture(folder / "visualization" / "chelsea" / "6.png").rgb.shape[1] > 2 * 451
    assert "noisy" in output and "denoised" in output


def test_valid_is_the_same_for_one_and_two_processes(
    write_options: WriteOptions, tmp_path: Path, repository: Path, assets: Path
) -> None:
    options = write_options(
        name="valid.yml", network={"width": 8}, datasets={"val": VAL},
        path={"pretrain_network": str(assets / "atbsn_width8.weights.safetensors")},
    )  # fmt: skip
    two = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={_free_port()}"]
    for start, arguments in (([], ["name=one", "val.save_img=1"]), (two, ["name=two", "--launcher", "pytorch"])):
        command = [*start, str(repository / "valid.py"), "-opt", str(options), "--k", "0", "3", "--set", *arguments]
        run = subprocess.run(  # each in its own process: the number of threads changes the last digits
            [sys.executable, *command],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, env=_environment(repository),
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        assert "k=0" in run.stdout and "k=3" in run.stdout and "noisy" in run.stdout
    alone, both = ((tmp_path / f"results/{n}/val/metrics.csv").read_text() for n in ("one", "two"))
    assert alone == both and alone.count("\n") == 1 + 2 * 3
    assert (tmp_path / "results/one/val/panels/chelsea.png").is_file()


def test_test_keeps_names_depth_channels_and_folders(
    command: Command, write_options: WriteOptions, tmp_path: Path, assets: Path
) -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "a.png": Picture(rng.integers(0, 256, (50, 70, 3), np.uint8)),
        "a.bmp": Picture(rng.integers(0, 256, (40, 40, 3), np.uint8), suffix=".bmp"),
        "sub/b.png": Picture(rng.integers(0, 65536, (33, 41, 3), np.uint16)),
        "sub/deep/c.tiff": Picture(rng.integers(0, 256, (9, 11, 1), np.uint8).repeat(3, 2), grey=True, suffix=".tiff"),
    }
    for name, picture in inputs.items():
        write_picture(tmp_path / "in" / name, picture)
    (tmp_path / "in" / "broken.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:200])
    weights = {"pretrain_network": str(assets / "atbsn_width8.weights.safetensors")}
    options = write_options(network={"width": 8}, path=weights)
    arguments = ("-opt", options, "--input", tmp_path / "in", "--output", tmp_path / "out")
    status, output = command("test.py", *arguments, "--set", "test.tile=64", "test.self_ensemble=true")
    assert status == 2 and "broken.png" in output and "Traceback" not in output
    for name, picture in inputs.items():
        result = read_picture(tmp_path / "out" / name)
        assert result.rgb.dtype == picture.rgb.dtype and result.rgb.shape == picture.rgb.shape
        assert result.grey == picture.grey
    one = ("--input", tmp_path / "in" / "a.png", "--output", tmp_path / "one")
    status, output = command("test.py", "-opt", options, *one)
    assert status == 0 and (tmp_path / "one" / "a.png").is_file(), output


@pytest.mark.parametrize("one", [False, True])
def test_test_does_not_write_over_its_input(
    one: bool, command: Command, write_options: WriteOptions, tmp_path: Path, assets: Path
) -> None:
    picture = tmp_path / "in" / "a.png"
    write_picture(picture, Picture(np.zeros((40, 40, 3), np.uint8)))
    before = picture.read_bytes()
    options = write_options(
        network={"width": 8}, path={"pretrain_network": str(assets / "atbsn_width8.weights.safetensors")}
    )
    given = picture if one else picture.parent
    status, output = command("test.py", "-opt", options, "--input", given, "--output", tmp_path / "in" / ".." / "in")
    assert status == 2 and "would be overwritten" in output and "Traceback" not in output
    assert picture.read_bytes() == before


def test_several_sets_go_to_folders_of_their_own(
    command: Command, write_options: WriteOptions, tmp_path: Path, assets: Path
) -> None:
    for name in ("one", "two"):
        write_picture(tmp_path / name / "a.png", Picture(np.zeros((40, 40, 3), np.uint8)))
    options = write_options(
        network={"width": 8},
        path={"pretrain_network": str(assets / "atbsn_width8.weights.safetensors")},
        datasets={f"test_{name}": {"type": "NoisyFolder", "dataroot": str(tmp_path / name)} for name in ("one", "two")},
    )
    status, output = command("test.py", "-opt", options, "--output", tmp_path / "out")
    assert status == 0, output
    assert (tmp_path / "out" / "test_one" / "a.png").is_file() and (tmp_path / "out" / "test_two" / "a.png").is_file()


def test_auto_compiles_on_a_gpu_alone(
    command: Command, write_options: WriteOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda *_, **how: compiled.append(how))
    options = write_options(train={"total_iter": 1})
    for value, expected in (("auto", 0), ("true", 1)):
        status, output = command("train.py", "-opt", options, "--set", f"train.compile={value}", f"name=run_{value}")
        assert status == 0 and len(compiled) == expected, output


def test_denoise_is_the_network(assets: Path) -> None:
    """In one pass, tiles or not, uint8 or float, [0, 255] or [0, 1]."""
    net = atbsn.load(assets / "student_a.weights.safetensors")
    io = load_file(assets / "student_a.io.safetensors")
    noisy, expected = (io[key][0].permute(1, 2, 0).numpy() for key in ("x1", "y1"))
    result = atbsn.denoise(net, noisy, precision="fp32")
    np.testing.assert_allclose(result, expected.clip(0, 255), atol=1e-3)
    np.testing.assert_allclose(atbsn.denoise(net, noisy / 255, precision="fp32") * 255, result, atol=1e-2)
    rounded = noisy.round().astype(np.uint8)
    assert atbsn.denoise(net, rounded).dtype == np.uint8
    blind = atbsn.load(assets / "atbsn_width8.weights.safetensors")
    x = load_file(assets / "atbsn_width8.io.safetensors")["x"][0].permute(1, 2, 0).numpy()
    y = load_file(assets / "atbsn_width8.io.safetensors")["y_k5"][0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(atbsn.denoise(blind, x, k=5, precision="fp32"), y.clip(0, 255), atol=1e-3)
    with pytest.raises(ValueError, match="k = 2"):
        atbsn.denoise(blind, x, k=2)
    for white in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="data_range"):
            atbsn.denoise(net, noisy, data_range=white)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": {"type": "ATBSN", "widht": 2}}, "did you mean 'width'"),
        ({"model": {"type": "BSNModell"}}, "did you mean 'BSNModel'"),
        ({"model": {"k_train": 4}}, "0 (not blind) or an odd number"),
        ({"model": {"k_train": -1}}, "0 (not blind) or an odd number"),
        ({"datasets": {"train": {"patch_size": 100}}}, "use 96 or 128"),
        ({"datasets": {"train": {"patch_size": 320}}}, "smaller than the 320x320 patch"),
        ({"datasets": {"train": {"type": "NoisyFolder", "dataroot": "nowhere", "patch_size": 32}}}, "nowhere"),
        ({"num_gpu": 99}, "this machine offers"),
        ({"path": {"pretrain_network": "none.pth"}}, "no such weight file"),
        ({"path": {"root": "/proc/nowhere"}}, "choose"),
        ({"train": {"total_iter": "many"}}, "train.total_iter"),
        ({"train": {"precision": "fp16"}}, "fp16 needs a GPU"),
    ],
)  # fmt: skip
def test_wrong_input_is_said_and_nothing_is_made(
    change: dict[str, Any], said: str, command: Command, write_options: WriteOptions, tmp_path: Path
) -> None:
    options = write_options(**change)
    before = sorted(tmp_path.rglob("*"))
    status, output = command("train.py", "-opt", options)
    assert status == 2 and said in output and "Traceback" not in output, output
    assert sorted(tmp_path.rglob("*")) == before


def _environment(repository: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_cuda_graph_needs_a_gpu(command: Command, write_options: WriteOptions, tmp_path: Path) -> None:
    status, output = command("train.py", "-opt", write_options(train={"cuda_graph": True}))
    assert status == 2 and "train.cuda_graph: true: it needs a GPU; use auto or false" in output
    assert not (tmp_path / "experiments").exists()


def test_captures_only_where_it_can() -> None:
    train: dict[str, Any] = {"total_iter": 1, "optim": {"type": "Adam", "lr": 1e-3}}
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert captures(Train(**train), gpu) and captures(Train(**train, cuda_graph=True), gpu)
    assert not captures(Train(**train), cpu) and not captures(Train(**train, cuda_graph=False), gpu)
    assert not captures(Train(**train, skip_nonfinite=1), gpu)
    with pytest.raises(UserError, match=r"train\.skip_nonfinite looks at every iteration; use auto or false"):
        captures(Train(**train, skip_nonfinite=1, cuda_graph=True), gpu)
