"""Measure time, memory and arithmetic of two variants of the same work, in turns within one run."""

import ctypes
import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from atbsn.utils.files import write_text

Run = Callable[[], object]
"""One unit of work. On a GPU it may still be under way when the call returns."""


@dataclass(frozen=True)
class Variant:
    """One way to do the work.

    Attributes:
        run: does the work once.
        compile: compiles it, after its arithmetic has been counted; None: it is not compiled.
        warm_up: number of runs until it is compiled, captured as a graph, and as fast as it gets.
    """

    run: Run
    compile: Run | None = None
    warm_up: int = 1


@dataclass(frozen=True)
class Case:
    """Work that can be done in two ways.

    Attributes:
        name: name of the row in the table.
        unit: what is counted: ``it`` (training iterations), ``MP`` (megapixels of pictures) or ``pictures``.
        amount: number of units in a run.
        pixels: number of pixels in a run, for multiply-adds (MACs) a pixel.
        ours, naive: build the two variants; None: there is no plain form.
    """

    name: str
    unit: str
    amount: float
    pixels: int
    ours: Callable[[], Variant]
    naive: Callable[[], Variant] | None


def measure(case: Case, device: torch.device, rounds: int, peaks: dict[str, float], precision: str) -> dict[str, Any]:
    """Measure both variants of ``case``: speed, working memory, arithmetic, operators and bytes.

    Args:
        rounds: number of runs of each variant; the speed is that of the median.
        peaks: TFLOP/s of matrix products by precision, for the share that is reached.
        precision: number type of our variant; the naive one is fp32.
    """
    names = {"ours": precision, "naive": "fp32"} if case.naive is not None else {"ours": precision}
    figures: dict[str, Any] = {}
    runs: dict[str, Run] = {}
    for name in names:
        variant: Variant = getattr(case, name)()
        with Traffic() as traffic, FlopCounterMode(display=False) as counter:
            variant.run()
        if variant.compile is not None:
            variant.compile()
        for _ in range(variant.warm_up if device.type == "cuda" else 0):
            variant.run()
        runs[name] = variant.run
        figures[name] = {
            "flop": counter.get_total_flops(),
            "operators": traffic.operators,
            "gigabytes": traffic.bytes / 1e9,
            "memory_mb": working_memory(variant.run, device),
        }
    seconds = in_turns(runs, device, rounds)
    for name, kind in names.items():
        tflops = figures[name].pop("flop") / 1e12
        figures[name] |= {
            "seconds": seconds[name],
            f"{case.unit}/s": case.amount / seconds[name],
            "kMAC/pixel": tflops * 1e9 / 2 / case.pixels,
            "TFLOP/s": tflops / seconds[name],
            "share of peak": tflops / seconds[name] / peaks[kind],
        }
    if "naive" not in figures:
        return {"case": case.name, "unit": case.unit, **figures}
    ours, naive = figures["ours"], figures["naive"]
    memory = None if naive["memory_mb"] is None else ours["memory_mb"] / naive["memory_mb"]
    speed = naive["seconds"] / ours["seconds"]
    return {"case": case.name, "unit": case.unit, **figures, "faster": speed, "memory": memory}


class Traffic(TorchDispatchMode):
    """Counts the operators that run on the device in eager work, and the bytes that they read and write.

    Views are not counted. An operator is taken to read all of its inputs, which is too much for a look-up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators, self.bytes = 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given, made = _tensors((args, kwargs)), _tensors(result)
        storages = {tensor.untyped_storage().data_ptr() for tensor in given}
        if function._schema.is_mutable or any(each.untyped_storage().data_ptr() not in storages for each in made):
            self.operators += 1
            self.bytes += sum(tensor.nbytes for tensor in (*given, *made))
        return result


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def profile(case: Case, folder: Path, device: torch.device) -> None:
    """Write our variant's trace (for chrome://tracing or Perfetto) and a table of its operators to ``folder``."""
    variant = case.ours()
    if variant.compile is not None:
        variant.compile()
    for _ in range(variant.warm_up):
        variant.run()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with torch.profiler.profile(activities=activities) as seen:
        variant.run()
        _synchronise(device)
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "_", case.name).strip("_")
    seen.export_chrome_trace(str(folder / f"{name}.trace.json"))
    by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    write_text(folder / f"{name}.operators.txt", seen.key_averages().table(sort_by=by, row_limit=60))


def in_turns(runs: dict[str, Run], device: torch.device, rounds: int) -> dict[str, float]:
    """Measure the median seconds of each of ``runs``. They take turns, so that a change of speed meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            _synchronise(device)
            start = time.perf_counter()
            run()
            _synchronise(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def working_memory(run: Run, device: torch.device) -> float | None:
    """Measure the megabytes that ``run`` needs at its peak beyond those in use before it; None if it is not known."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    reset = Path("/proc/self/clear_refs")
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        reset.write_text("5")  # Linux: start a new peak
    except OSError:
        return None
    resident = _status("VmRSS")
    run()
    return (_status("VmHWM") - resident) / 1024


def peak_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the TFLOP/s of ``device`` in large matrix products of ``dtype``: the best of some runs.

    The products are computed plainly and as 1x1 convolutions, which come from different libraries on a CPU.
    """
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(rows, side, device=device).to(dtype) for rows in (4 * side, side))
    image, kernels = (
        torch.randn(size, device=device).to(dtype=dtype, memory_format=torch.channels_last)
        for size in ((1, side, side // 16, 64), (side, side, 1, 1))
    )
    runs: dict[str, Run] = {"matmul": lambda: a @ b, "conv2d": lambda: torch.conv2d(image, kernels)}
    in_turns(runs, device, rounds=2)
    seconds = [in_turns(runs, device, rounds=1) for _ in range(5)]
    return 8 * side**3 / min(min(each.values()) for each in seconds) / 1e12


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows of ``measure`` as a table in Markdown; the row of a case that failed says why."""
    header = (
        "| | ours | naive | ratio | memory ours | naive | ratio | kMAC/pixel ours | naive | TFLOP/s ours | of peak "
        "| operators ours | naive | GB ours | naive |"
    )
    lines = [header, "|" + "---|" * (header.count("|") - 1)]
    for row in rows:
        if "failed" in row:
            reason = row["failed"].replace("|", "/")  # which would begin another cell
            lines.append(f"| {row['case']} | failed: {reason} |" + " |" * (header.count("|") - 3))
            continue
        unit, ours, naive = f"{row['unit']}/s", row["ours"], row.get("naive")
        ratio = "" if naive is None else f"**{row['faster']:.2f}x**"
        less = "" if row.get("memory") is None else f"{row['memory']:.2f}"

        def both(key: str, form: str, ours: Any = ours, naive: Any = naive) -> list[str]:
            return ["" if each is None or each[key] is None else form.format(each[key]) for each in (ours, naive)]

        cells = [
            row["case"], *both(unit, f"{{:.3g}} {unit}"), ratio, *both("memory_mb", "{:.0f} MB"), less,
            *both("kMAC/pixel", "{:,.0f}"), f"{ours['TFLOP/s']:.3g}", f"{ours['share of peak']:.0%}",
            *both("operators", "{:,}"), *both("gigabytes", "{:.3g}"),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _status(key: str) -> float:
    """Read a value, kilobytes, of Linux's status of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))
