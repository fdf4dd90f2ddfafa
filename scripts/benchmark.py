"""Measure how fast training and denoising are, against the same networks written plainly (scripts/naive*.py).

``python scripts/benchmark.py`` measures every method and network in turns: ours, naive, ours, naive, and so on. The
cases that tell most come first. benchmark.md and benchmark.json in results/benchmark/ are written after each case. If a
case fails, the tables say why, the others are measured, and the exit status is 2. ``--seconds 300`` begins no case
after that time. ``--profile`` also writes a trace and a table of operators for each case. ``--full`` takes the
published batch sizes, pictures of 12 megapixels and further baselines, and also measures how long a training waits for
its data.

Naive means: float32, channels first, eager, half-plane convolutions by padding and cropping, a pass for every blind
spot, and float32 copied from the CPU to the device in every step. Ours runs as ``train.py`` and ``test.py`` do: in
bfloat16 if the device has it, and on a GPU with ``train.compile`` and ``test.compile`` (docs/performance.md says why
not on a CPU). For shipped weights, ours is what ``atbsn.denoise`` and ``atbsn denoise`` do, and naive is their network
on the whole picture, in float32. Operators and bytes are counted in a run before it is compiled.
"""

import argparse
import gc
import itertools
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import cv2
import numpy as np
import torch

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.data.folder import NoisyFolder
from atbsn.data.loader import SampleNumbers, train_loader
from atbsn.data.patches import PatchDataset
from atbsn.data.store.prepare import PatchPlan, prepare
from atbsn.engine.commands import run_command
from atbsn.engine.precision import autocast, resolve_precision
from atbsn.engine.training.trainer import Trainer
from atbsn.utils.arguments import positive
from atbsn.utils.errors import UserError, in_a_phrase
from atbsn.utils.files import write_text
from atbsn.utils.log import logger, progress_bar
from cases import FULL, QUICK, Bench
from measurement import in_turns, measure, peak_tflops, profile, table

WAITING = "waiting for data"
"""Name of the measurement of ``waiting``, for ``--only`` and in the report."""
T = TypeVar("T")


def _steps(trainer: Trainer, number: int) -> None:
    for each in range(number):
        trainer.step(each)


def waiting(bench: Bench, size: tuple[int, int], folder: Path, steps: int) -> dict[str, float]:
    """Measure the share of AT-BSN's training time that is spent waiting for data, from RAM and from an LMDB.

    Args:
        size: batch size, and side of the patches, pixels.
        folder: an empty folder for the data.
        steps: number of training steps of a run.
    """
    batch, side = size
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for number in range(16):
        cv2.imwrite(str(folder / "pictures" / f"{number}.png"), rng.integers(256, size=(512, 512, 3), dtype=np.uint8))
    pictures = NoisyFolder(folder / "pictures")
    prepare(pictures, folder / "pictures.lmdb", PatchPlan.make(pictures, None, None, "raw"), num_workers=2)
    sources = {"RAM": pictures, "LMDB": NoisyFolder(folder / "pictures.lmdb", "lmdb")}
    runs: dict[str, Callable[[], object]] = {}
    for name, images in {"": pictures, **sources}.items():
        numbers = SampleNumbers(batch_size=batch, total_iter=10**6)
        pin_memory = bench.device.type == "cuda"
        loader = train_loader(PatchDataset(images, side), numbers, num_workers=4, pin_memory=pin_memory)
        batches = iter(loader) if name else itertools.repeat(next(iter(loader)))
        trainer, compiler = bench.trainer(bench.bsn_model(), batches)
        if compiler is not None:
            compiler()
        trainer.step(1)
        runs[name] = partial(_steps, trainer, steps)
    seconds = in_turns(runs, bench.device, rounds=3)
    return {name: max(0.0, 1 - seconds[""] / seconds[name]) for name in sources}


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write benchmark.json and benchmark.md."""
    peaks = ", ".join(f"{peak:.3g} TFLOP/s in {name}" for name, peak in report["peak TFLOP/s"].items())
    text = (
        f"{report['machine']}, {report['threads']} threads, torch {report['torch']}; ours in {report['precision']}. "
        f"Matrix products reach {peaks}.\n\n{table(report['cases'])}"
    )
    if report["not reached"]:
        text += f"\nNot reached in {report['seconds']:g} s: {'; '.join(report['not reached'])}.\n"
    for source, share in report[WAITING].items():
        text += f"\nOf AT-BSN's training time, {share:.1%} is spent waiting for data from {source}.\n"
    write_text(folder / "benchmark.json", json.dumps(report, indent=1) + "\n")
    write_text(folder / "benchmark.md", text)


def attempt(name: str, action: Callable[[], T], device: torch.device) -> tuple[T | None, str | None]:
    """Return the result of ``action`` and None, or None and the reason why it failed. Its memory is freed."""
    try:
        return action(), None
    except Exception as error:
        expected = isinstance(error, (UserError, OSError, MemoryError, torch.OutOfMemoryError))
        logger.error("%s: failed: %s", name, in_a_phrase(error), exc_info=not expected)
        return None, in_a_phrase(error)
    finally:
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> int:
    start = time.perf_counter()
    options = parse()
    device = torch.device(options.device)
    precision = resolve_precision(options.precision, device)
    autocast(precision, device)  # raises a UserError if the device lacks this precision
    torch.manual_seed(0)
    sizes = FULL if options.full else QUICK
    peaks = {name: peak_tflops(device, dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    rows: list[dict[str, Any]] = []
    failures = 0
    report: dict[str, Any] = {
        "machine": machine_name(device), "threads": torch.get_num_threads(), "torch": torch.__version__,
        "precision": precision, "peak TFLOP/s": peaks, "seconds": options.seconds, "cases": rows, "not reached": [],
        WAITING: {},
    }  # fmt: skip

    def in_time() -> bool:
        return options.seconds is None or time.perf_counter() - start < options.seconds

    with TemporaryDirectory() as scratch:
        bench = Bench(device, precision, options.width, options.wide, Path(scratch) / "teacher.pth")
        teacher = build_arch({"type": "ATBSN", "width": options.width})
        save_weights(bench.teacher, teacher.state_dict(), {"network": teacher.options})
        cases = [case for case in bench.cases(sizes, options.full) if any(word in case.name for word in options.only)]
        if not cases and not options.full:
            raise UserError(
                f"--only: {', '.join(options.only)}: no case is named so; try 'training', 'student' or 'C-BSN'"
            )
        write(options.output, report)  # so that a folder that cannot be written is reported before minutes are spent
        for case in progress_bar(cases, "benchmark"):
            if not in_time():
                report["not reached"].append(case.name)
                continue
            measuring = partial(measure, case, device, options.rounds, peaks, precision)
            row, reason = attempt(case.name, measuring, device)
            rows.append({"case": case.name, "failed": reason} if row is None else row)
            write(options.output, report)
            if options.profile and row is not None:
                profiling = partial(profile, case, options.output / "profiles", device)
                _, reason = attempt(f"profile of {case.name}", profiling, device)
            failures += reason is not None
        write(options.output, report)
        if options.full and any(word in WAITING for word in options.only):
            if in_time():
                steps = 30 if device.type == "cuda" else 3
                sharing = partial(waiting, bench, sizes.train_atbsn, Path(scratch), steps)
                shares, reason = attempt(WAITING, sharing, device)
                report[WAITING] = shares or {}
                failures += reason is not None
            else:
                report["not reached"].append(WAITING)
            write(options.output, report)
    text = (options.output / "benchmark.md").read_text(encoding="utf-8")
    logger.info("%s (%s)\n\n%s", options.output / "benchmark.md", options.output / "benchmark.json", text)
    return 2 if failures else 0


def machine_name(device: torch.device) -> str:
    """The name of the GPU, or that of the CPU as far as the system tells."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    gpu = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cpu", "cuda") if gpu else ("cpu",), default="cuda" if gpu else "cpu")
    parser.add_argument("--full", action="store_true", help="published sizes; tens of minutes on a CPU")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORDS", help="cases whose name holds one of these")
    parser.add_argument("--seconds", type=positive(float), metavar="S", help="begin no case after this many seconds")
    parser.add_argument("--profile", action="store_true", help="write traces and tables of operators, too")
    parser.add_argument("--rounds", type=positive(int), default=3, help="turns of each variant (default: 3)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of our variants")
    parser.add_argument("--width", type=positive(int), default=48, help="of the UNets and TM-BSN (default: 48)")
    parser.add_argument("--wide", type=positive(int), default=128, help="of C-BSN, AP-BSN and the like (default: 128)")
    parser.add_argument("--output", type=Path, default=Path("results/benchmark"), help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
