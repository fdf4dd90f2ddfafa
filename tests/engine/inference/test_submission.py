"""From the publishers' archives to the files that benchmarks take, decoded here by readers of our own."""

import base64
import csv
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from helpers.archives import INSTANCES, make_dnd, make_sidd_blocks, make_sidd_medium
from helpers.kinds import Command

import atbsn
from atbsn.archs.base import Network
from atbsn.archs.weights import save_weights
from atbsn.data.dnd import DND
from atbsn.data.sidd import SIDDBenchmark
from atbsn.engine.inference.seed import picture_seed
from atbsn.engine.inference.submission import _csv_equals, _write_csv, open_submission
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError

QUICK = ["num_gpu=0", "path.root=.", "val.save_img=0"]
SMALL = [
    "network.width=2", "datasets.train.patch_size=64", "datasets.train.batch_size_per_gpu=2",
    "datasets.train.num_worker_per_gpu=0", "train.total_iter=3", "train.precision=fp32", "train.compile=false",
    "logger.use_tb_logger=false", "logger.save_checkpoint_freq=3",
]  # fmt: skip


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    """Archives where the option files of the repository look for them."""
    sidd = tmp_path / "datasets" / "SIDD"
    make_sidd_medium(sidd)
    make_sidd_blocks(sidd / "validation", "Validation")
    make_sidd_blocks(sidd / "benchmark", "Benchmark")
    make_dnd(tmp_path / "datasets" / "DND")
    return tmp_path / "datasets"


def read_csv(path: Path) -> tuple[list[str], np.ndarray]:
    """What Kaggle reads: IDs, and blocks of as many bytes as a square RGB picture has."""
    csv.field_size_limit(2**30)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["ID", "BLOCK"]
    blocks = [np.frombuffer(base64.b64decode(row["BLOCK"]), np.uint8) for row in rows]
    size = int((len(blocks[0]) / 3) ** 0.5)
    return [row["ID"] for row in rows], np.stack(blocks).reshape(-1, size, size, 3)


@torch.no_grad()
def network_output(net: Network, rgb: np.ndarray, **how: Any) -> np.ndarray:
    """(H, W, 3) in [0, 255] through the network alone, clipped."""
    x = torch.from_numpy(np.ascontiguousarray(rgb).astype(np.float32)).permute(2, 0, 1)[None]
    if net.draws():
        how["generator"] = torch.Generator().manual_seed(picture_seed(x))
    return net.denoise(x, **how)[0].permute(1, 2, 0).clamp(0, 255).numpy()


def files(folder: Path) -> list[Path]:
    """All results in ``folder``, but for the records of what is done."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "manifest")


def rounded(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5).astype(np.uint8)


def succeed(command: Command, *arguments: object) -> str:
    status, output = command(*arguments)
    assert status == 0, output
    return output


# --- the whole path ----------------------------------------------------------------------------------------


def test_from_the_archives_to_the_submissions(command: Command, datasets: Path, tmp_path: Path) -> None:
    sidd = datasets / "SIDD"
    succeed(command, "prepare", "sidd", sidd / "SIDD_Medium_Srgb", sidd / "medium_512.lmdb", "--size", 80)
    output = succeed(command, "train.py", "-opt", "train_atbsn.yml", "--set", *QUICK, *SMALL)
    assert "mean of 6 pictures" in output
    weights = tmp_path / "experiments/train_atbsn/models/net_latest.pth"
    net = atbsn.load(weights)

    output = succeed(command, "valid.py", "-opt", "test_sidd_validation.yml", "--set", *QUICK)
    assert "ssim_volume" in output and "instance 01" in output
    with (tmp_path / "results/test_sidd_validation/val/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows if row["method"] == "denoised"] == [
        f"0{i}_0{b}" for i in (0, 1) for b in range(3)
    ]

    output = succeed(command, "test.py", "-opt", "test_sidd_benchmark.yml", "--set", *QUICK)
    assert "read back and found right" in output and "Kaggle" in output
    noisy = scipy.io.loadmat(sidd / "benchmark/BenchmarkNoisyBlocksSrgb.mat")["BenchmarkNoisyBlocksSrgb"]
    expected = np.stack([rounded(network_output(net, block, k=3)) for block in noisy.reshape(-1, 64, 64, 3)])
    folder = tmp_path / "results/test_sidd_benchmark/test/submission"
    ids, blocks = read_csv(folder / "SubmitSrgb.csv")
    assert ids == ["0", "1", "2", "3", "4", "5"]
    assert np.array_equal(blocks, expected)
    denoised = scipy.io.loadmat(folder / "SubmitSrgb.mat")["DenoisedBlocksSrgb"]
    assert denoised.dtype == np.uint8 and denoised.shape == noisy.shape
    assert np.array_equal(denoised.reshape(blocks.shape), expected)

    output = succeed(
        command, "test.py", "-opt", "test_dnd.yml", "--set", *QUICK, f"path.pretrain_network={weights}",
        "datasets.test.context=32",
    )  # fmt: skip
    assert "read back and found right" in output and "https://noise.visinf.tu-darmstadt.de/submit/" in output
    check_dnd(tmp_path / "results/test_dnd/test/submission", net, DND(datasets / "DND", context=32))


def check_dnd(folder: Path, net: Network, dnd: DND) -> None:
    """The files are the network's outputs with context, of which the box is kept, clipped and in [0, 1]."""
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        f"{image:04d}_{box:02d}.mat" for image in (1, 2) for box in (1, 2, 3)
    ]
    assert sorted(path.name for path in (folder / "bundled").iterdir()) == ["0001.mat", "0002.mat"]
    for index in range(len(dnd)):
        image, box = divmod(index, 3)
        output = network_output(net, dnd.read(index).rgb, k=3)[dnd.window(index)]
        crop = scipy.io.loadmat(folder / f"{image + 1:04d}_{box + 1:02d}.mat")["Idenoised_crop"]
        assert crop.dtype == np.float32 and crop.shape == (64, 64, 3)
        assert np.array_equal(crop, output / np.float32(255))
        assert crop.min() >= 0 and crop.max() <= 1
        bundle = scipy.io.loadmat(folder / "bundled" / f"{image + 1:04d}.mat")
        assert bundle["Idenoised"].shape == (1, 3) and bundle["Idenoised"].dtype == object
        assert np.array_equal(bundle["Idenoised"][0, box], crop)
        assert bundle["israw"] == 0 and bundle["eval_version"] == ["1.0"]


@pytest.mark.parametrize("name", ["train_atbsn_sidd_benchmark", "train_atbsn_dnd"])
def test_training_on_the_noisy_pictures_of_a_benchmark(
    command: Command, datasets: Path, tmp_path: Path, name: str
) -> None:
    succeed(command, "train.py", "-opt", f"{name}.yml", "--set", *QUICK, *SMALL)
    assert (tmp_path / "experiments" / name / "models" / "net_3.pth").is_file()


# --- every network -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"type": name, **ARCHS.get(name).example()} for name in ARCHS],
    ids=lambda options: options["type"],
)
def test_every_network_submits(command: Command, datasets: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = atbsn.build_arch(options).eval()
    save_weights(tmp_path / "net.pth", net.state_dict(), {"network": net.options})
    succeed(command, "test.py", "-opt", "test_sidd_benchmark.yml", "--set", *QUICK, "path.pretrain_network=net.pth")
    noisy = scipy.io.loadmat(datasets / "SIDD/benchmark/BenchmarkNoisyBlocksSrgb.mat")["BenchmarkNoisyBlocksSrgb"]
    _, blocks = read_csv(tmp_path / "results/test_sidd_benchmark/test/submission/SubmitSrgb.csv")
    expected = rounded(network_output(net, noisy[1, 1]))
    assert blocks[4].shape == expected.shape
    assert np.array_equal(blocks[4], expected)


# --- several processes -------------------------------------------------------------------------------------


BOTH = """
import os, runpy, sys
scripts, sys.argv = sys.argv[1:3], sys.argv[2:]
for script, port in zip(scripts, os.environ["PORTS"].split()):
    os.environ["MASTER_PORT"] = port
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ending:
        if ending.code:
            raise
"""


def run_in_two_processes(scripts: list[Path], arguments: list[str], folder: Path) -> None:
    """Two commands one after the other in two processes that meet at a free port, each command at its own."""
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        ports = f"{one.getsockname()[1]} {two.getsockname()[1]}"
    common = os.environ | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "PORTS": ports, "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BOTH, *map(str, scripts), *arguments, "--launcher", "pytorch"],
            cwd=folder, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)


def test_two_processes_measure_and_submit_what_one_does(
    command: Command, repository: Path, datasets: Path, tmp_path: Path
) -> None:
    net = atbsn.build_arch({"type": "ATBSN", "width": 2})
    save_weights(tmp_path / "net.pth", net.state_dict(), {"network": net.options, "k": 3})
    (tmp_path / "scenes.txt").write_text("\n".join(INSTANCES[1:]))
    (tmp_path / "both.yml").write_text(
        "name: NAME\nnum_gpu: 0\npath: {pretrain_network: net.pth}\ntest: {tile: none}\ndatasets:\n"
        "  val: {type: SIDDValidation, dataroot: datasets/SIDD/validation, scenes: scenes.txt}\n"
        "  test_sidd: {type: SIDDBenchmark, dataroot: datasets/SIDD/benchmark}\n"
        "  test_dnd: {type: DND, dataroot: datasets/DND}\n"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    scripts = ["valid.py", "test.py"]
    for script in scripts:
        succeed(command, script, "-opt", "both.yml", "--set", "name=one")
    run_in_two_processes(
        [repository / script for script in scripts], ["-opt", "both.yml", "--set", "name=two"], tmp_path
    )
    torch.set_num_threads(threads)

    one, two = (tmp_path / "results" / name for name in ("one", "two"))
    one_files, two_files = ([path.relative_to(folder) for path in files(folder)] for folder in (one, two))
    # Tables (pictures, groups, means) and what they are of; pictures and a submission; pictures, boxes and bundles.
    assert len(one_files) == 4 + (6 + 2) + (6 + 6 + 2)
    assert one_files == two_files
    for name in one_files:
        data = [(folder / name).read_bytes() for folder in (one, two)]
        if name.suffix == ".mat":
            data = [part[128:] for part in data]  # the header holds the time
        assert data[0] == data[1], name


def test_groups_are_means_of_their_pictures(command: Command, datasets: Path, tmp_path: Path) -> None:
    net = atbsn.build_arch({"type": "ATBSN", "width": 2})
    save_weights(tmp_path / "net.pth", net.state_dict(), {"network": net.options})
    (tmp_path / "scenes.txt").write_text("\n".join(INSTANCES[1:]))
    output = succeed(
        command, "valid.py", "-opt", "test_sidd_validation.yml", "--set", *QUICK, "path.pretrain_network=net.pth",
        "datasets.val.scenes=scenes.txt",
    )  # fmt: skip
    folder = tmp_path / "results/test_sidd_validation/val"
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (folder / "groups.csv").open() as file:
        groups = list(csv.DictReader(file))
    metrics = [name for name in rows[0] if "[" in name]
    assert len(metrics) == 7
    labels = [(row["group"], row["value"]) for row in groups[::2]]
    assert labels == [
        ("instance", INSTANCES[1]), ("instance", INSTANCES[2]), ("iso", "800"), ("phone", "GP"), ("phone", "S6"),
        ("scene", "001"), ("scene", "004"),
    ]  # fmt: skip
    for entry in groups:
        part = [row for row in rows if row[entry["group"]] == entry["value"] and row["method"] == entry["method"]]
        assert len(part) == int(entry["pictures"]) == (6 if entry["group"] == "iso" else 3)
        for name in metrics:
            assert float(entry[name]) == pytest.approx(np.mean([float(row[name]) for row in part]), abs=1e-9)
    assert "phone GP" in output and "iso 800" in output


# --- what is wrong -----------------------------------------------------------------------------------------


def test_a_network_that_gives_no_numbers(command: Command, datasets: Path, tmp_path: Path) -> None:
    net = atbsn.build_arch({"type": "StudentC", "width": 2})
    state = {name: torch.full_like(tensor, torch.nan) for name, tensor in net.state_dict().items()}
    save_weights(tmp_path / "net.pth", state, {"network": net.options})
    status, output = command(
        "test.py", "-opt", "test_sidd_benchmark.yml", "--set", *QUICK, "path.pretrain_network=net.pth"
    )
    assert status == 2
    assert "unet.intro.conv.weight is not finite" in output
    assert not list(tmp_path.glob("results/**/*.csv"))
    assert not list(tmp_path.rglob("SubmitSrgb*"))


def test_a_missing_block(datasets: Path, tmp_path: Path) -> None:
    images = SIDDBenchmark(datasets / "SIDD/benchmark")
    submission = open_submission(images, tmp_path / "out")
    for index in range(5):
        submission.add(index, images.read(index).rgb)
    with pytest.raises(UserError, match="only 5 of 6 blocks are there"):
        submission.finish()
    assert not (tmp_path / "out").exists()


def submit_dnd(datasets: Path, folder: Path, change: Callable[[np.ndarray], np.ndarray] = lambda rgb: rgb) -> None:
    images = DND(datasets / "DND")
    submission = open_submission(images, folder)
    for index in range(len(images)):
        submission.add(index, change(images.read(index).rgb))
    if change.__name__ == "remove":
        (folder / "0001_02.mat").unlink()
    submission.finish()


@pytest.mark.parametrize(
    "change", [lambda rgb: rgb[:-1], lambda rgb: rgb * 2, lambda rgb: rgb * np.nan, lambda rgb: -rgb]
)
def test_boxes_that_the_server_would_refuse(datasets: Path, tmp_path: Path, change: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"0001_01\.mat: not what should have been written"):
        submit_dnd(datasets, tmp_path / "out", change)


def test_a_missing_box(datasets: Path, tmp_path: Path) -> None:
    def remove(rgb: np.ndarray) -> np.ndarray:
        return rgb

    with pytest.raises(UserError, match=r"0001_02\.mat: missing; denoise all boxes"):
        submit_dnd(datasets, tmp_path / "out", remove)


@pytest.mark.parametrize("name", ["_write_csv", "scipy"])
def test_what_was_written_is_read_back(
    datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Truncating instead of rounding, say, or swapping blocks, would be noticed."""
    images = SIDDBenchmark(datasets / "SIDD/benchmark")
    submission = open_submission(images, tmp_path)
    for index in range(len(images)):
        submission.add(index, images.read(index).rgb)
    if name == "scipy":
        save = scipy.io.savemat
        monkeypatch.setattr(
            scipy.io, "savemat", lambda file, content: save(file, {n: v[::-1] for n, v in content.items()})
        )
    else:
        from atbsn.engine.inference import submission as module

        write = module._write_csv
        monkeypatch.setattr(module, "_write_csv", lambda file, blocks: write(file, blocks[::-1]))
    with pytest.raises(UserError, match=r"SubmitSrgb.*: not what should have been written"):
        submission.finish()


def test_sets_that_are_no_benchmark_submit_nothing(datasets: Path, tmp_path: Path) -> None:
    assert open_submission(DND(datasets / "DND", split="images"), tmp_path) is None


@pytest.mark.parametrize(
    ("old", "new", "is_right"),
    [(b"", b"", True), (b"ID,", b"IC,", False), (b"BLOCK", b"BLOCKS", False), (b"\n1,", b"\n0,", False),
     (b"\n1,", b"\n2,", False), (b"\n5,", b"\n05,", False), (b"AAAA", b"AAAB", False)],
)  # fmt: skip
def test_every_number_and_byte_of_a_csv_is_compared(tmp_path: Path, old: bytes, new: bytes, is_right: bool) -> None:
    """Of two pictures of three blocks; a line that lacks and one too much are seen, too."""
    blocks = np.arange(2 * 3 * 4 * 5 * 3, dtype=np.uint16).reshape(2, 3, 4, 5, 3).astype(np.uint8)
    blocks[1, 2] = 0
    path = tmp_path / "submission.csv"
    with path.open("wb") as file:
        _write_csv(file, blocks)
    written = path.read_bytes()
    lines = written.split(b"\n")
    assert lines[0] == b"ID,BLOCK" and lines[7:] == [b""]
    for number, line in enumerate(lines[1:7]):
        index, data = line.split(b",")
        assert int(index) == number and base64.b64decode(data) == blocks.reshape(6, 60)[number].tobytes()
    assert old in written
    path.write_bytes(written.replace(old, new, 1))
    assert _csv_equals(path, blocks) == is_right
    for longer_or_shorter in (written + lines[6] + b"\n", written[: written.rindex(b"\n5,") + 1], b""):
        path.write_bytes(longer_or_shorter)
        assert not _csv_equals(path, blocks)
