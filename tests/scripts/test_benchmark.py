"""scripts/benchmark.py: every case runs in both ways, and is counted, timed and written down. No times are asserted."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.kinds import Command

import benchmark
from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.data.loader import train_loader
from atbsn.data.store.lmdb import LmdbReader
from atbsn.utils.errors import UserError
from cases import Bench, Sizes
from measurement import Traffic, in_turns, measure, table, working_memory

CPU = torch.device("cpu")


def test_benchmark_writes_json_and_markdown(command: Command, tmp_path: Path) -> None:
    arguments = ["--device", "cpu", "--width", "2", "--wide", "2", "--rounds", "1", "--precision", "fp32"]
    status, output = command("scripts/benchmark.py", *arguments, "--only", "step", "teacher family", "student A")
    assert status == 0, output
    folder = tmp_path / "results" / "benchmark"
    report = json.loads((folder / "benchmark.json").read_text())
    rows = {row["case"].split(",")[0]: row for row in report["cases"]}
    assert list(rows) == [
        "AT-BSN training step", "distillation step", "C-BSN training step", "training step of the shipped weights",
        "teacher family", "student A",
    ]  # fmt: skip
    for name, row in rows.items():
        if name != "training step of the shipped weights":
            assert row["faster"] == pytest.approx(row["naive"]["seconds"] / row["ours"]["seconds"])
        assert row["case"] in (folder / "benchmark.md").read_text()
    # One feature pass instead of seven; the head of width 2 still runs seven times.
    family = rows["teacher family"]
    assert family["ours"]["kMAC/pixel"] < 0.2 * family["naive"]["kMAC/pixel"]
    # Student A as the paper has it, over the whole picture.
    assert rows["student A"]["naive"]["kMAC/pixel"] == pytest.approx(31.185)


@pytest.mark.long
def test_every_case_runs_in_both_ways(tmp_path: Path) -> None:
    teacher = build_arch({"type": "ATBSN", "width": 2})
    save_weights(tmp_path / "teacher.pth", teacher.state_dict(), {"network": teacher.options})
    bench = Bench(CPU, "fp32", width=2, wide=2, teacher=tmp_path / "teacher.pth")
    sizes = Sizes((1, 64), (1, 64), (1, 60), (1, 64), (64, 64), (64, 64), (64, 64), (64, 64), (48, 48), (48, 48))
    rows = {
        row["case"].split(",")[0]: row
        for row in (measure(case, CPU, 1, {"fp32": 1.0}, "fp32") for case in bench.cases(sizes, full=True))
    }
    assert len(rows) == 24
    assert [name.split(",")[0] for name in list(rows)[:7]] == [
        "student C", "atbsn.denoise(real)", "atbsn.denoise(fast)", "AT-BSN training step", "distillation step",
        "C-BSN training step", "training step of the shipped weights",
    ], "those that take seconds on a GPU first"  # fmt: skip
    for name, row in rows.items():
        both = [variant for variant in ("ours", "naive") if variant in row]
        assert len(both) == 2 or name == "training step of the shipped weights"
        for each in both:
            assert all(row[each][key] > 0 for key in ("kMAC/pixel", "operators", "gigabytes", "seconds")), name
    # The same network, over one picture of a size and over four.
    alone, folder = rows["atbsn.denoise(real)"], rows["folder of 4 JPEGs"]
    assert folder["naive"]["operators"] == 4 * alone["naive"]["operators"]
    assert folder["ours"]["kMAC/pixel"] == pytest.approx(alone["ours"]["kMAC/pixel"])
    lines = table([*rows.values()]).splitlines()
    assert len(lines) == 2 + len(rows) and len({line.count("|") for line in lines}) == 1
    # The same nine passes; one feature pass instead of five.
    refined = rows["AP-BSN + R3"]
    assert refined["ours"]["kMAC/pixel"] == pytest.approx(refined["naive"]["kMAC/pixel"], rel=0.2)
    family = rows["TM-BSN family"]
    assert family["ours"]["kMAC/pixel"] < 0.3 * family["naive"]["kMAC/pixel"]


SMALL = ("--device", "cpu", "--width", "2", "--wide", "2", "--rounds", "1", "--precision", "fp32")


def test_a_failing_case_does_not_lose_the_others(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 TB")

    monkeypatch.setattr("naive.bsn_loss", refuse)
    monkeypatch.setattr("measurement.peak_tflops", lambda *_: 1.0)
    status, output = command("scripts/benchmark.py", *SMALL, "--only", "AT-BSN training", "teacher family", "--profile")
    assert status == 2 and "Traceback" not in output
    assert "AT-BSN training step, 2 x 128 x 128: failed: OutOfMemoryError: CUDA out of memory." in output
    folder = tmp_path / "results" / "benchmark"
    first, second = json.loads((folder / "benchmark.json").read_text())["cases"]
    assert "failed" in first and second["case"].startswith("teacher family") and second["faster"] > 0
    assert "| failed: OutOfMemoryError" in (folder / "benchmark.md").read_text()
    assert "traceEvents" in (folder / "profiles" / "teacher_family_7_k_256_x_256.trace.json").read_text()
    assert "aten::" in (folder / "profiles" / "teacher_family_7_k_256_x_256.operators.txt").read_text()


def test_a_profile_that_fails_does_not_lose_its_row(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("nothing was seen")

    monkeypatch.setattr("measurement.profile", refuse)
    monkeypatch.setattr("measurement.peak_tflops", lambda *_: 1.0)
    status, output = command("scripts/benchmark.py", *SMALL, "--only", "teacher family", "--profile")
    assert status == 2 and "profile of teacher family, 7 k, 256 x 256: failed: ValueError: nothing was seen" in output
    assert "Traceback" in output  # a defect, which is to be found
    (row,) = json.loads((tmp_path / "results" / "benchmark" / "benchmark.json").read_text())["cases"]
    assert row["faster"] > 0


def test_a_picture_that_fails_is_no_time_of_a_folder(tmp_path: Path) -> None:
    bench = Bench(CPU, "fp32", width=2, wide=2, teacher=tmp_path / "teacher.pth")
    sizes = Sizes(*[(1, 64)] * 4, *[(64, 64)] * 6)
    (case,) = [case for case in bench.cases(sizes, full=False) if case.name.startswith("folder")]
    run = case.ours().run
    (tmp_path / "noisy" / "2.jpg").write_bytes(b"damaged")
    with pytest.raises(RuntimeError, match=r"2\.jpg: "):
        run()


def test_every_row_is_written_when_it_is_measured_and_time_is_kept(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    file = tmp_path / "results" / "benchmark" / "benchmark.json"

    def measured(case: Any, *_: Any) -> None:
        seen.append((case.name, len(json.loads(file.read_text())["cases"]) if file.exists() else 0))
        if len(seen) == 2:
            clock[0] += 100
        raise UserError("not today")

    clock = [time.perf_counter()]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("measurement.measure", measured)
    monkeypatch.setattr("measurement.peak_tflops", lambda *_: 1.0)
    status, _ = command("scripts/benchmark.py", *SMALL, "--seconds", "50")
    report = json.loads(file.read_text())
    assert status == 2 and [rows for _, rows in seen] == [0, 1] and len(report["cases"]) == 2
    assert (
        len(report["not reached"]) == 13
        and "Not reached in 50 s: atbsn.denoise(fast)" in file.with_suffix(".md").read_text()
    )


def test_traffic_counts_no_views() -> None:
    x = torch.zeros(4, 5)
    with Traffic() as traffic:
        y = x.t()[1:].unsqueeze(0) + 1  # reads 16 numbers and writes as many
        y.add_(1)  # reads and writes them
    assert traffic.operators == 2 and traffic.bytes == 4 * (16 + 16 + 16 + 16)


def test_unknown_case_is_refused(command: Command) -> None:
    status, output = command("scripts/benchmark.py", "--device", "cpu", "--only", "GAN")
    assert status == 2 and "--only: GAN" in output and "Traceback" not in output


def test_a_slow_source_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crop_slowly(*arguments: Any) -> Any:
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


def test_variants_take_turns_and_medians_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order = [0.0], []

    def take(name: str, seconds: Iterator[float]) -> None:
        order.append(name)
        clock[0] += next(seconds)

    monkeypatch.setattr("measurement.time.perf_counter", lambda: clock[0])
    ours, naive = iter([9.0, 1.0, 2.0]), iter([4.0, 4.0, 6.0])
    seconds = in_turns({"ours": lambda: take("A", ours), "naive": lambda: take("B", naive)}, CPU, rounds=3)
    assert order == list("ABABAB") and seconds == {"ours": 2, "naive": 4}


def test_working_memory_sees_what_is_freed_again() -> None:
    before = working_memory(lambda: None, CPU)
    if before is None:
        pytest.skip("this system does not tell a process its peak")
    peak = working_memory(lambda: torch.ones(2**25).sum(), CPU)
    assert before < 32 and 120 <= peak < 160
