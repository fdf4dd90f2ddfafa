"""Time, memory and arithmetic of two ways to do the same work, in turns within one run."""

import ctypes
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Run = Callable[[], object]
"""One unit of work. On a GPU it may still be under way when the call returns."""


@dataclass(frozen=True)
class Variant:
    """One way to do the work: ``run``, and what, if anything, compiles it once its arithmetic has been counted."""

    run: Run
    compile: Run | None = None


@dataclass(frozen=True)
class Case:
    """Work that can be done in two ways.

    Attributes:
        name: of the row.
        unit: what is counted: ``it`` (training iterations) or ``MP`` (megapixels of pictures).
        amount: units a run.
        pixels: pixels a run, for MACs a pixel.
        ours, naive: build the two variants.
    """

    name: str
    unit: str
    amount: float
    pixels: int
    ours: Callable[[], Variant]
    naive: Callable[[], Variant]


def measure(case: Case, device: torch.device, rounds: int, peaks: dict[str, float], precision: str) -> dict[str, Any]:
    """Both variants of ``case``: speed (medians of ``rounds`` turns), working memory and arithmetic.

    Args:
        peaks: TFLOP/s of matrix products by precision, for the share that is reached.
        precision: of our variant; the naive one is fp32.
    """
    names = {"ours": precision, "naive": "fp32"}
    figures: dict[str, Any] = {}
    runs: dict[str, Run] = {}
    for name in names:
        variant: Variant = getattr(case, name)()
        with FlopCounterMode(display=False) as counter:
            variant.run()
        if variant.compile is not None:
            variant.compile()
            variant.run()
        runs[name] = variant.run
        figures[name] = {"flop": counter.get_total_flops(), "memory_mb": working_memory(variant.run, device)}
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
    ours, naive = figures["ours"], figures["naive"]
    memory = None if naive["memory_mb"] is None else ours["memory_mb"] / naive["memory_mb"]
    speed = naive["seconds"] / ours["seconds"]
    return {"case": case.name, "unit": case.unit, **figures, "faster": speed, "memory": memory}


def in_turns(runs: dict[str, Run], device: torch.device, rounds: int) -> dict[str, float]:
    """Median seconds of each of ``runs``, which take turns so that a machine's moods meet all of them."""
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
    """Megabytes that ``run`` needs at its peak beyond what is there before it; None where nothing tells."""
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
    """What ``device`` reaches in large matrix products of ``dtype``: the best of a few, plain or as 1x1 convolutions.

    The two come from different libraries on a CPU.
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
    """The rows of ``measure`` in Markdown."""
    header = (
        "| | ours | naive | ratio | memory ours | naive | ratio | kMAC/pixel ours | naive | TFLOP/s ours | of peak |"
    )
    lines = [header, "|" + "---|" * (header.count("|") - 1)]
    for row in rows:
        unit, ours, naive = f"{row['unit']}/s", row["ours"], row["naive"]
        memory = ["", "", ""]
        if row["memory"] is not None:
            memory = [f"{ours['memory_mb']:.0f} MB", f"{naive['memory_mb']:.0f} MB", f"{row['memory']:.2f}"]
        cells = [
            row["case"], f"{ours[unit]:.3g} {unit}", f"{naive[unit]:.3g} {unit}", f"**{row['faster']:.2f}x**", *memory,
            f"{ours['kMAC/pixel']:,.0f}", f"{naive['kMAC/pixel']:,.0f}", f"{ours['TFLOP/s']:.3g}",
            f"{ours['share of peak']:.0%}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _status(key: str) -> float:
    """A line of Linux's account of this process, kilobytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))
