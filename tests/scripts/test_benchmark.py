"""scripts/benchmark.py: every case runs in both ways, and is counted, timed and written down. No times are asserted."""

import json
from pathlib import Path

import pytest
import torch

from scripts.benchmark import Bench, waiting
from scripts.measurement import in_turns, working_memory

CPU = torch.device("cpu")


def test_benchmark_writes_json_and_markdown(command, tmp_path):
    arguments = ["--device", "cpu", "--width", "2", "--cbsn_width", "2", "--rounds", "1", "--precision", "fp32"]
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


def test_unknown_case_is_refused(command):
    status, output = command("scripts/benchmark.py", "--device", "cpu", "--only", "GAN")
    assert status == 2 and "--only: GAN" in output and "Traceback" not in output


def test_waiting_is_a_share_for_every_source(tmp_path):
    bench = Bench(CPU, "fp32", width=2, cbsn_width=2, teacher=Path("unused"))
    shares = waiting(bench, (2, 32), tmp_path, steps=2)
    assert list(shares) == ["RAM", "LMDB"] and all(0 <= share < 1 for share in shares.values())


def test_variants_take_turns():
    order = []
    seconds = in_turns({"ours": lambda: order.append("A"), "naive": lambda: order.append("B")}, CPU, rounds=3)
    assert order == list("ABABAB") and all(value >= 0 for value in seconds.values())


def test_working_memory_sees_what_is_freed_again():
    before = working_memory(lambda: None, CPU)
    if before is None:
        pytest.skip("this system does not tell a process its peak")
    peak = working_memory(lambda: torch.ones(2**25).sum(), CPU)
    assert before < 32 and 120 <= peak < 160
