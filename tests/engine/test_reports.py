"""report.py: tables and figures from what runs, sweeps and valid.py left."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.kinds import Command

from atbsn.engine.evaluation.results import COLUMNS, Result, write_results
from atbsn.engine.reports.collect import collect
from atbsn.engine.reports.tables import build_tables, cell_of, format_table
from atbsn.utils.errors import UserError

PSNR, SSIM, LPIPS = "psnr (RGB, clipped, rounded)", "ssim (Y)", "lpips (alex)"


def write_means(folder: Path, values: dict[str, Any], weights: str | None = None) -> None:
    """As valid.py writes them: means over two pictures."""
    holes = {method: int(method[2:]) for method in values if method.startswith("k=")}
    common: dict[str, Any] = {"pictures": 2, "weights": weights}
    results = [
        each
        for method, value in values.items()
        for each in (
            Result(folder.name, method, "psnr", value, PSNR, True, 2, k=holes.get(method), **common),
            Result(folder.name, method, "lpips", value / 100, LPIPS, False, 4, k=holes.get(method), **common),
        )
    ]
    write_results(folder / "means.csv", results)


def write_run(folder: Path, curve: dict[int, float], **options: Any) -> None:
    folder.mkdir(parents=True)
    content = {"name": folder.name, "manual_seed": 0, "model": {"type": "BSNModel", "k_train": 9}, **options}
    (folder / "options.yml").write_text("# command: x\n" + yaml.safe_dump(content))
    results = [Result("val", "net", "psnr", value, PSNR, True, 2, iteration) for iteration, value in curve.items()]
    write_results(folder / "metrics.csv", results)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished sweep of k_train x seed, as the ledger and valid.py leave it."""
    monkeypatch.chdir(tmp_path)
    entries = {}
    for k in (5, 9):
        for seed in (0, 1):
            name = f"grid/k_train-{k}--seed-{seed}"
            axes = {"k_train": str(k), "seed": str(seed)}
            common = {"name": name, "stage": "", "axes": axes, "seed": seed, "status": "done", "digest": "", "cores": 2}
            weights = f"experiments/{name}/models/net_latest.pth"
            common["weights"] = weights
            write_run(tmp_path / "experiments" / name, {5: 20 + k, 10: 30 + k + seed})
            write_means(tmp_path / "results" / name / "val", {"noisy": 25, "k=0": 30 + k + seed, "k=3": 31 + k + seed})
            train = {"kind": "train", "folder": f"experiments/{name}", "needs": None, "seconds": 30.0 * k}
            valid = {"kind": "valid", "folder": f"results/{name}", "needs": f"train {name}", "seconds": 1.0}
            entries |= {f"train {name}": {**common, **train}, f"valid {name}": {**common, **valid}}
    entries["train grid/late"] = {**common, **train, "name": "grid/late", "status": "failed", "seconds": 1.0}
    (tmp_path / "experiments" / "grid" / "sweep.json").write_text(json.dumps(entries))
    return tmp_path / "experiments" / "grid"


def test_tables_have_mean_spread_best_and_protocol(sweep: Path) -> None:
    (table,) = build_tables(collect([sweep]))
    assert table.dataset == "val" and table.axes == ("k_train",) and "2 pictures" in table.pictures
    markdown = format_table(table, "md")
    # k_train 9, k = 3: 40 and 41 of the seeds; its 9 x 30 s x 2 cores are 9 core-minutes.
    assert "| 9 | k=3 | **40.50** ± 0.71 | 0.4050 ± 0.0071 | 2 | 9.0 |" in markdown
    assert "| 5 | k=0 | 35.50 ± 0.71 | **0.3550** ± 0.0071 | 2 | 5.0 |" in markdown  # a smaller lpips is better
    assert "|  | noisy | 25.00 ± 0.00 |" in markdown and markdown.count("noisy") == 1
    assert f"- (1) psnr: {PSNR}" in markdown and f"- (2) lpips: {LPIPS}" in markdown
    latex = format_table(table, "latex")
    assert r"9 & k=3 & \textbf{40.50} $\pm$ 0.71" in latex and r"k\_train" in latex and r"\toprule" in latex
    rows = list(csv.DictReader(format_table(table, "csv").splitlines()))
    best = next(row for row in rows if row["k_train"] == "9" and row["method"] == "k=3")
    assert float(best[f"psnr [{PSNR}]"]) == 40.5 and float(best[f"psnr std [{PSNR}]"]) == pytest.approx(0.5**0.5)
    assert best["seeds"] == "2" and float(best["core-minutes"]) == 9


def test_a_seed_counts_once(sweep: Path) -> None:
    values = [value for value in collect([sweep]) if value.method == "k=3" and value.metric == "psnr"]
    assert cell_of(values * 3) == cell_of(values) and cell_of(values).num == 2


def test_runs_side_by_side_are_told_apart_by_their_options(tmp_path: Path) -> None:
    for k in (5, 9):
        for seed in (0, 1):
            folder = tmp_path / f"run_{k}_{seed}"
            write_run(folder, {5: 1, 10: 30 + k + seed}, manual_seed=seed, model={"type": "BSNModel", "k_train": k})
    (table,) = build_tables(collect(sorted(tmp_path.iterdir())))
    assert table.axes == ("model.k_train",)
    lines = {row[0]: cells["psnr", PSNR] for row, _, cells, _ in table.lines}
    assert (lines["5"].mean, lines["9"].mean) == (35.5, 39.5) and lines["9"].num == 2


def test_results_know_their_weights(tmp_path: Path) -> None:
    write_means(tmp_path / "mine" / "val", {"denoised": 30}, weights="models/w.pth")
    values = collect([tmp_path / "mine"])
    assert {value.weights.as_posix() for value in values} == {"models/w.pth"}
    (table,) = build_tables(values)
    ((row, method, cells, _),) = table.lines
    assert (row, method, cells["psnr", PSNR].mean) == (("mine",), "denoised", 30)


def test_runs_of_older_versions_are_read(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {5: 20.0, 10: 30.0})
    lines = [f'{iteration},val,net,psnr,{value},"{PSNR}"' for iteration, value in ((5, 20.0), (10, 30.0))]
    new = collect([tmp_path / "run"])
    text = "\n".join(["iteration,dataset,weights,metric,value,protocol", *lines]) + "\n"
    (tmp_path / "run" / "metrics.csv").write_text(text)
    assert [replace(value, digits=2) for value in collect([tmp_path / "run"])] == new


def test_a_measure_of_which_neither_way_is_better_has_no_best(tmp_path: Path) -> None:
    results = [Result("val", method, "level", value, "1 is right", None) for method, value in (("a", 0.9), ("b", 1.2))]
    write_results(tmp_path / "mine" / "val" / "means.csv", results)
    (table,) = build_tables(collect([tmp_path / "mine"]))
    assert "**" not in format_table(table, "md")


@pytest.mark.parametrize("text", ["method,psnr\nnoisy,25\n", "", "\0", ",".join(COLUMNS) + "\nval,a,psnr,x" + "," * 8])
def test_other_tables_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine" / "val" / "means.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(UserError, match=r"means.csv: no table of results \(.*measured again"):
        collect([tmp_path / "mine"])


def test_a_mean_of_teachers_is_a_family_s_and_one_teacher_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entries = {}
    for ks in ("0_1", "0_3"):
        name = f"grid/average/k-{ks}"
        folder = tmp_path / "results" / name / "val"
        results = [
            Result("val", "noisy", "psnr", 25.0, PSNR, True, 2),
            Result("val", "teacher k=0", "psnr", 30.0, PSNR, True, 2, k=0, kmac=5.0),
            Result("val", "teacher mean", "psnr", 31.0 + len(ks), PSNR, True, 2, k="mean", kmac=7.0),
        ]
        write_results(folder / "comparison_means.csv", results)
        entries[f"compare {name}"] = {
            "kind": "compare", "name": name, "stage": "average", "axes": {"k": ks}, "seed": 0, "status": "done",
            "seconds": 1.0, "digest": "", "cores": 1, "needs": None, "folder": f"results/{name}", "weights": "w.pth",
        }  # fmt: skip
    (tmp_path / "experiments" / "grid").mkdir(parents=True)
    (tmp_path / "experiments" / "grid" / "sweep.json").write_text(json.dumps(entries))
    values = collect([tmp_path / "experiments" / "grid"])
    (table,) = build_tables(values)
    assert [(row, method) for row, method, _, _ in table.lines] == [
        (("", ""), "noisy"), (("average", ""), "k=0"), (("average", "0_1"), "mean"), (("average", "0_3"), "mean"),
    ]  # fmt: skip
    assert {value.kmac for value in values if value.method == "mean"} == {7.0}


def test_figures_are_drawn(command: Command, sweep: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    status, output = command(
        "report", sweep, "--format", "md", "latex", "csv", "--figures", "heatmap", "k", "curves", "macs"
    )  # fmt: skip
    assert status == 0, output
    folder = tmp_path / "results" / "grid" / "report"
    names = {path.name for path in folder.iterdir()}
    assert {"table_val.md", "table_val.tex", "table_val.csv"} <= names
    # There are no weights to count MACs of here, but core-minutes.
    drawn = {f"{kind}_val_psnr.{suffix}" for kind in ("heatmap", "k", "curves", "minutes") for suffix in ("png", "pdf")}
    assert drawn <= names and "macs_val_psnr.png" not in names
    assert (folder / "heatmap_val_psnr.png").stat().st_size > 5000


def test_quality_against_macs_counts_the_networks_in_the_files(assets: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from atbsn.engine.reports.figures import _kmac, draw

    write_means(tmp_path / "mine" / "val", {"denoised": 30})
    (value, _) = collect([tmp_path / "mine"])
    value = replace(value, weights=assets / "student_a.weights.safetensors")
    # Student A: 3 -> 48 at full, 48 -> 48 at a half and a quarter, 96 -> 96 at a half, 99 -> 3 at full size.
    assert _kmac(value) == pytest.approx(
        9 * (3 * 48 + 48 * 48 / 4 + 48 * 48 / 16 + 96 * 96 / 4 + 99 * 3) / 1e3, abs=1e-3
    )
    assert {path.name for path in draw("macs", [value], tmp_path)} == {"macs_val_psnr.png", "macs_val_psnr.pdf"}


def test_a_figure_without_its_values_is_refused(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_means(tmp_path / "mine" / "val", {"denoised": 30})
    status, output = command("report", tmp_path / "mine", "--figures", "heatmap")
    assert status == 2 and "k_train" in output and "atbsn valid --k" in output


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a sweep"):
        collect([tmp_path])
    (tmp_path / "sweep.json").write_text("{]")
    with pytest.raises(UserError, match="not a readable record"):
        collect([tmp_path])
