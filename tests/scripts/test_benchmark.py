"""scripts/benchmark.py: every case runs in both ways, and is counted, timed and written down. No times are asserted."""

import json
import time
from pathlib import Path

import pytest
import torch

from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.data.loader import train_loader
from atbsn.data.store.lmdb import LmdbReader
from scripts import benchmark
from scripts.cases import Bench, Sizes
from scripts.measurement import in_turns, measure, working_memory

CPU = torch.device("cpu")


def test_benchmark_writes_json_and_markdown(command, tmp_path):
    arguments = ["--device", "cpu", "--width", "2", "--wide", "2", "--rounds", "1", "--precision", "fp32"]
    status, output = command("scripts/benchmark.py", *arguments, "--only", "step", "teacher family", "student A")
    assert status == 0, output
    folder = tmp_path / "results" / "benchmark"
    report = json.loads((folder / "benchmark.json").read_text())
    rows = {row["case"].split(",")[0]: row for row in report["cases"]}
    assert list(rows) == [
        "AT-BSN training step", "distillation step", "C-BSN training step", "teacher family", "student A"
    ]  # fmt: skip
    for row in rows.values():
        assert row["faster"] == pytest.approx(row["naive"]["seconds"] / row["ours"]["seconds"])
        assert row["case"] in (folder / "benchmark.md").read_text()
    # One feature pass instead of seven; the head of width 2 still runs seven times.
    family = rows["teacher family"]
    assert family["ours"]["kMAC/pixel"] < 0.2 * family["naive"]["kMAC/pixel"]
    # Student A as the paper has it, over the whole picture.
    assert rows["student A"]["naive"]["kMAC/pixel"] == pytest.approx(31.185)


def test_every_case_runs_in_both_ways(tmp_path):
    teacher = build_arch({"type": "ATBSN", "width": 2})
    save_weights(tmp_path / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
    bench = Bench(CPU, "fp32", width=2, wide=2, teacher=tmp_path / "teacher.pth")
    sizes = Sizes((1, 64), (1, 64), (1, 60), *[(64, 64)] * 4, (48, 48), (48, 48))
    rows = {
        row["case"].split(",")[0]: row
        for row in (measure(case, CPU, 1, {"fp32": 1.0}, "fp32") for case in bench.cases(sizes, full=True))
    }
    assert len(rows) == 20 and all(row[name]["kMAC/pixel"] > 0 for row in rows.values() for name in ("ours", "naive"))
    # The same nine passes; one feature pass instead of five.
    refined = rows["AP-BSN + R3"]
    assert refined["ours"]["kMAC/pixel"] == pytest.approx(refined["naive"]["kMAC/pixel"], rel=0.2)
    family = rows["TM-BSN family"]
    assert family["ours"]["kMAC/pixel"] < 0.3 * family["naive"]["kMAC/pixel"]


def test_unknown_case_is_refused(command):
    status, output = command("scripts/benchmark.py", "--device", "cpu", "--only", "GAN")
    assert status == 2 and "--only: GAN" in output and "Traceback" not in output


def test_a_slow_source_is_waited_for(tmp_path, monkeypatch):
    def crop_slowly(*arguments):
        time.sleep(0.1)
        return crop(*arguments)

    crop = LmdbReader.crop
    monkeypatch.setattr(LmdbReader, "crop", crop_slowly)
    # Without workers, which read ahead: what a crop takes is waited for.
    monkeypatch.setattr(benchmark, "train_loader", lambda *args, **kw: train_loader(*args, **{**kw, "num_workers": 0}))
    bench = Bench(CPU, "fp32", width=2, wide=2, teacher=Path("unused"))
    shares = benchmark.waiting(bench, (2, 32), tmp_path, steps=2)
    assert list(shares) == ["RAM", "LMDB"]
    assert shares["LMDB"] > 0.5 and shares["LMDB"] > shares["RAM"]


def test_variants_take_turns_and_medians_count(monkeypatch):
    clock, order = [0.0], []

    def take(name, seconds):
        order.append(name)
        clock[0] += next(seconds)

    monkeypatch.setattr("scripts.measurement.time.perf_counter", lambda: clock[0])
    ours, naive = iter([9.0, 1.0, 2.0]), iter([4.0, 4.0, 6.0])
    seconds = in_turns({"ours": lambda: take("A", ours), "naive": lambda: take("B", naive)}, CPU, rounds=3)
    assert order == list("ABABAB") and seconds == {"ours": 2, "naive": 4}


def test_working_memory_sees_what_is_freed_again():
    before = working_memory(lambda: None, CPU)
    if before is None:
        pytest.skip("this system does not tell a process its peak")
    peak = working_memory(lambda: torch.ones(2**25).sum(), CPU)
    assert before < 32 and 120 <= peak < 160
