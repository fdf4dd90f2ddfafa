"""Every fault of an option file is said before anything is made: path, value, rule and remedy."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.kinds import Command, WriteOptions

from atbsn.archs import build_arch
from atbsn.options import load_options
from atbsn.options.check import check_options
from atbsn.options.load import apply_override, merge
from atbsn.utils.errors import UserError

VALID: dict[str, Any] = {
    "name": "tiny",
    "datasets": {
        "train": {"type": "NoisyFolder", "dataroot": "pictures", "patch_size": 64},
        "val": {"type": "SimulatedCamera", "split": "val"},
    },
    "network": {"type": "ATBSN", "width": 8},
    "model": {"type": "BSNModel", "k_train": 5},
    "train": {"total_iter": 10, "optim": {"type": "Adam", "lr": 3e-4}},
}


def faults(*assignments: str) -> list[str]:
    """The lines of the message for the valid options with these assignments laid over them."""
    raw = VALID
    for assignment in assignments:
        raw = apply_override(raw, assignment)
    with pytest.raises(UserError) as caught:
        check_options(raw, "x.yml")
    first, *lines = str(caught.value).splitlines()
    assert first == ("x.yml: 1 fault" if len(lines) == 1 else f"x.yml: {len(lines)} faults")
    assert all(line.startswith("  ") for line in lines)
    return [line.strip() for line in lines]


def test_valid_options_are_typed() -> None:
    options = check_options(VALID, "x.yml")
    assert options.train.optim.lr == 3e-4 and options.train.optim.betas == (0.9, 0.999)
    assert options.train.scheduler.type == "CosineAnnealing" and options.val.val_freq is None
    assert options.loader().patch_size == 64 and options.dataset("train") == {
        "type": "NoisyFolder",
        "dataroot": "pictures",
    }
    assert options.dataset_names("val") == ["val"] and options.dataset_names("test") == []


@pytest.mark.parametrize(
    ("assignment", "fault"),
    [
        ("train.optim.lrr=1", "train.optim.lrr: unknown key; did you mean 'lr'?"),
        ("trian=1", "trian: unknown key; did you mean 'train'?"),
        ("train.scheduler={type: Cosine}", "train.scheduler"),
        ("network.widht=3", "network.widht: unknown key; did you mean 'width'?"),
        ("network.type=ATBNS", "network.type: 'ATBNS' is not a registered architecture; did you mean 'ATBSN'?"),
        ("network.type=3", "network.type: 3 is not a registered architecture; "),
        ("network.type=[ATBSN]", "network.type: ['ATBSN'] is not a registered architecture; "),
        ("network.width=0", "network.width: 0: input should be greater than 0"),
        ("network.width=99999999999999999999", "network.width: 99999999999999999999: input should be less than"),
        ("network.width='8'", "network.width: '8': input should be a valid integer"),
        ("network.width=8.5", "network.width: 8.5: input should be a valid integer"),
        ("network.width=true", "network.width: True: input should be a valid integer"),
        ("network.mean=.nan", "network.mean: nan: input should be a finite number"),
        ("model.k_train=4", "model.k_train: 4: k = 4: a blind spot is 0 (not blind) or an odd number; use 0, 1, 3"),
        ("model.teacher=x", "model.teacher: unknown key"),
        ("datasets.train.dataroot=~", "datasets.train.dataroot: None: "),
        ("datasets.train.patch=64", "datasets.train.patch: unknown key; "),
        ("datasets.train.patch_size=100", "datasets.train.patch_size: 100 is not a multiple of 32, which ATBSN with "
                                          "BSNModel needs; use 96 or 128"),
        ("datasets.train.patch_size=16", "datasets.train.patch_size: 16 is not a multiple of 32, which ATBSN with "
                                         "BSNModel needs; use 32"),
        ("datasets.train.patch_size='64'", "datasets.train.patch_size: '64': input should be a valid integer"),
        ("datasets.train.batch_size_per_gpu=1000000", "less than or equal to 65536"),
        ("datasets.train.num_worker_per_gpu=-1", "greater than or equal to 0"),
        ("datasets.valid={type: SimulatedCamera}", "datasets.valid"),
        ("datasets.val.splt=val", "datasets.val.splt: unknown key; did you mean 'split'?"),
        ("datasets.val.split=vla", "datasets.val.split: 'vla': input should be 'train' or 'val'"),
        ("train.total_iter=1000000000000", "train.total_iter: 1000000000000: input should be less than 2147483648"),
        ("train.total_iter=1e3", "train.total_iter: 1000.0: input should be a valid integer"),
        ("train.optim.lr=0", "train.optim.lr: 0: input should be greater than 0"),
        ("train.optim.lr=.inf", "train.optim.lr: inf: input should be a finite number"),
        ("train.optim.lr='3e-4'", "train.optim.lr: '3e-4': input should be a valid number"),
        ("train.optim.betas=[0.9, 1.0]", "train.optim.betas.1: 1.0: input should be less than 1"),
        ("train.optim.betas=[0.9]", "train.optim.betas.1: missing; this key is required"),
        ("train.optim.type=Adma", "train.optim"),
        ("train.scheduler={type: Step, step_size: 5, gamma: 2}", "less than or equal to 1"),
        ("train.scheduler={type: CosineAnnealing, eta_min: 1}", "eta_min: 1.0 exceeds train.optim.lr (0.0003)"),
        ("train.precision=fp8", "train.precision: 'fp8': input should be 'fp32', 'bf16' or 'fp16'"),
        ("train.compile=yes please", "train.compile: 'yes please': input should be a valid boolean"),
        ("train.compile=1", "train.compile: 1: input should be a valid boolean"),
        ("val.best_metric=pnsr", "val.best_metric: 'pnsr' is not one of val.metrics; did you mean 'psnr'?"),
        ("val.metrics={a: {type: pnsr}}", "val.metrics.a: 'pnsr' is not a registered metric; did you mean 'psnr'?"),
        ("val.metrics.pnsr=~", "val.metrics.pnsr: None: nothing of this name lies below that null could take out; "),
        ("datasets.val_b=~", "datasets.val_b: None: nothing of this name lies below"),
        ("train.scheduler={type: Step, step_size: 1.5}", "train.scheduler.step_size: 1.5: input should be a valid"),
        ("train.scheduler={type: MultiStep, milestones: [0.0]}", "train.scheduler.milestones.0: 0.0"),
        ("data=a b", "data: 'a b': not a name; use letters, digits, '_', '-' and '.'"),
        ("train.scheduler={type: Constant, warmup_iter: 11}", "train.scheduler.warmup_iter: 11 exceeds train.total"),
        ("val.tile={}", "val.tile: {}: input should be a valid integer"),
        ("val.k=[2]", "k = 2: a blind spot is 0"),
        ("test.tile=0", "test.tile: 0: input should be greater than 0, or input should be 'auto' or 'none'"),
        ("name=../x", "name: '../x': not a name for a folder"),
        ("name=3", "name: 3: input should be a valid string"),
        ("name=~", "name: None: "),
        ("manual_seed=-1", "manual_seed: -1: input should be greater than or equal to 0"),
        ("num_gpu=all", "num_gpu: 'all': "),
        ("network=~", "network: missing"),
        ("network=ATBSN", "network: 'ATBSN': "),
        ("network.type=~", "network.type: missing; name a registered architecture: "),
        ("datasets=[]", "datasets: []: "),
        ("train=3", "train: 3: "),
        ("logger.keep_last=0", "logger.keep_last: 0: input should be greater than 0"),
    ],
)  # fmt: skip
def test_one_fault_is_one_line(assignment: str, fault: str) -> None:
    (line,) = faults(assignment)
    assert fault in line


def test_all_faults_at_once() -> None:
    lines = faults(
        "trian=1", "network.widht=3", "model.type=BSN", "datasets.train.patch_size=0", "train.total_iter=0",
        "train.optim.lrr=3", "datasets.val.nosuch=1",
    )  # fmt: skip
    assert [line.split(":")[0] for line in lines] == [
        "train.optim.lrr", "train.total_iter", "trian", "network.widht", "model.type",
        "datasets.train.patch_size", "datasets.val.nosuch",
    ]  # fmt: skip


def test_the_patch_follows_the_method() -> None:
    """A student needs less than its teacher, and C-BSN's strides count."""
    raw = merge(VALID, {"network": {"type": "CBSN", "width": 8}, "model": {"type": "CBSNModel"}})
    with pytest.raises(UserError, match="64 is not a multiple of 10, which CBSN with CBSNModel needs; use 60 or 70"):
        check_options(raw, "x.yml")
    raw["model"] = {"type": "CBSNModel", "stride_train": 4}
    check_options(raw, "x.yml")


def test_long_values_are_cut() -> None:
    (line,) = faults("train.precision=" + "x" * 4000)
    assert len(line) < 200


def test_the_dump_of_options_can_be_loaded_again(tmp_path: Path) -> None:
    from atbsn.engine.training.experiment import dump_options

    options = check_options(VALID, "x.yml")
    path = tmp_path / "options.yml"
    path.write_text(dump_options(options))
    assert load_options(str(path)) == options


def test_assignments_and_debug_lie_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text(yaml.safe_dump(VALID))
    options = load_options(str(path), ["train.optim.lr=1e-3", "train.total_iter=100"], debug=True)
    assert options.name == "debug_tiny" and options.train.total_iter == 16 and options.train.optim.lr == 1e-3
    assert options.logger.print_freq == 1
    with pytest.raises(UserError, match=r"x\.yml: 1 fault\n  train\.optim\.lrr: unknown key; did you mean 'lr'\?"):
        load_options(str(path), ["train.optim.lrr=1"])


@pytest.mark.parametrize("gpu", [False, True])
def test_on_cpu_lies_over_the_file_and_under_assignments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    path = tmp_path / "x.yml"
    small = {"network": {"width": 4}, "train": {"total_iter": 7, "optim": {"lr": 2e-3}}}
    path.write_text(yaml.safe_dump({**VALID, "num_gpu": "auto", "on_cpu": small}))
    whole = load_options(str(path), ["on_cpu=~"])
    assert whole.train.total_iter == VALID["train"]["total_iter"] and whole.on_cpu is None
    options = load_options(str(path), ["train.total_iter=9"])
    assert options.train.total_iter == 9 and options.on_cpu is None
    assert options.train.optim.lr == (whole.train.optim.lr if gpu else 2e-3)
    assert options.network["width"] == (whole.network["width"] if gpu else 4)
    assert load_options(str(path), ["num_gpu=0"]).train.total_iter == 7
    with pytest.raises(UserError, match="on_cpu: 3: not a mapping of options"):
        load_options(str(path), ["on_cpu=3"])
    with pytest.raises(UserError, match=r"train\.optim\.lrr: unknown key"):
        load_options(str(path), ["num_gpu=0", "on_cpu.train.optim.lrr=1"])


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("val={val_freq: 2, precision: fp16}", "fp16 needs a GPU"),
        ("val={val_freq: 2, tile: 8}", "tile"),
        ("datasets.val={type: NoisyFolder, dataroot: nowhere}", "nowhere"),
        ("datasets.val={type: SimulatedCamera, shot_noise: [2e-3, 1e-3]}", "is no range"),
    ],
)
def test_what_only_shows_when_it_is_built_stops_before_anything_is_made(
    command: Command, write_options: WriteOptions, tmp_path: Path, assignment: str, said: str
) -> None:
    options = write_options(val={"val_freq": 2})
    before = sorted(tmp_path.rglob("*"))
    status, output = command("train.py", "-opt", options, "--set", assignment)
    assert status == 2 and said in output and "Traceback" not in output, output
    assert sorted(tmp_path.rglob("*")) == before


def test_mean_stands_wherever_a_blind_spot_to_denoise_with_does() -> None:
    raw = VALID
    for assignment in ("test.k=mean", "val.k=[1, mean]", "model.k_test=mean", "test.denoise={k: mean}"):
        raw = apply_override(raw, assignment)
    options = check_options(raw, "x.yml")
    assert options.test.k == "mean" and options.val.k == [1, "mean"]
    assert faults("model.k_train=mean")[0].startswith("model.k_train: 'mean': input should be a valid integer")
    assert faults("test.k=median")[0].startswith("test.k: 'median': input should be ")


@pytest.mark.parametrize(
    ("assignments", "fault"),
    [
        (["model.k_train=65"], "model.k_train: 65: this hole leaves pixels in the middle of a patch of 64 nothing to "
                               "see; use 63 or less (the published ones are far smaller), or "
                               "datasets.train.patch_size: 66 or more"),
        (["model.k_train=999"], "model.k_train: 999: this hole leaves"),
        (["network={type: APRBSN}", "model={type: APRRDModel, k_train: 65}"], "model.k_train: 65: this hole leaves"),
        (["network={type: TMBSN}", "model.k_train=33"], "model.k_train: 33: this hole leaves pixels in the middle of a "
                                                        "patch of 64 nothing to see; use 32 or less"),
        (["model={type: SASSModel, stage: 1, k: 65}"], "model.k: 65: this hole leaves"),
        (["network={type: StudentC}", "model={type: DistillModel, teacher: none.pth, ks: [3, 65]}"],
         "model.ks: 65: this hole leaves"),
    ],
)  # fmt: skip
def test_a_hole_that_leaves_nothing_to_see(assignments: list[str], fault: str) -> None:
    (found,) = faults(*assignments)
    assert found.startswith(fault)


@pytest.mark.parametrize(("network", "k"), [("ATBSN", 0), ("ATBSN", 63), ("TMBSN", 32), ("TMBSN", 0)])
def test_the_largest_hole_that_leaves_something_is_taken(network: str, k: int) -> None:
    raw = apply_override(apply_override(VALID, f"network={{type: {network}}}"), f"model.k_train={k}")
    assert check_options(raw, "x.yml").model["k_train"] == k


@pytest.mark.parametrize(("network", "side", "k"), [("ATBSN", 32, 31), ("TMBSN", 8, 4)])
def test_the_smallest_patch_is_where_the_network_begins_to_see(network: str, side: int, k: int) -> None:
    """In the middle of a patch, the output depends on the picture through this hole, and not through the next one."""
    torch.manual_seed(0)
    net = build_arch({"type": network, "width": 16}).eval()
    noisy = torch.rand(1, 3, side, side) * 255
    noisy.requires_grad_()
    for hole, sees in ((k, True), (k + 2, False)):
        assert (net.smallest_patch(hole) <= side) == sees
        (gradient,) = torch.autograd.grad(net(noisy, k=hole)[..., side // 2, side // 2].sum(), noisy)
        assert bool(gradient.any()) == sees
