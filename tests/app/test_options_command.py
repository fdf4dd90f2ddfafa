"""atbsn options: what there is, what comes of it, and copies that work where they are put."""

from pathlib import Path

import pytest
import yaml
from helpers.kinds import Command

from atbsn.options import load_options, option_files


def test_list_names_every_file(command: Command) -> None:
    status, said = command("options", "list")
    assert status == 0 and all(f"  {path.name} " in said for path in option_files())
    status, said = command("options", "list", "distill_")
    assert status == 0 and "distill_tmbsn.yml" in said and "  cbsn.yml" not in said
    status, said = command("options", "list", "nosuch")
    assert status == 2 and "nosuch: no option file has this in its name" in said


def test_show_is_what_a_run_would_have(command: Command, tmp_path: Path) -> None:
    status, said = command("options", "show", "apbsn.yml", "polyu.yml", "--set", "train.total_iter=7")
    assert status == 0, said
    (tmp_path / "shown.yml").write_text(said)
    assert load_options("shown.yml") == load_options(["apbsn.yml", "polyu.yml"], ["train.total_iter=7"])
    assert yaml.safe_load(said)["name"] == "train_apbsn_polyu"


def test_a_method_alone_lacks_its_data(command: Command) -> None:
    status, said = command("options", "show", "apbsn.yml")
    assert status == 2 and "lay a data file over the method, as in -opt apbsn.yml sidd.yml" in said
    status, said = command("options", "show", "apbsn.yml", "--as_written")
    assert status == 0 and "name: train_apbsn_{data}" in said and said.startswith("# AP-BSN")


@pytest.mark.parametrize(
    "name", ["train_folder.yml", "train_real_strong.yml", "test_quickstart.yml", "table_s1_cpu.yml"]
)
def test_a_copy_is_the_same_anywhere(command: Command, tmp_path: Path, name: str) -> None:
    status, said = command("options", "copy", name, "--folder", "mine")
    assert status == 0 and f"mine/{name}: a copy of" in said.replace("\\", "/")
    if "table" not in name:
        assert load_options(f"mine/{name}") == load_options(name)
    else:
        assert command("sweep", "-opt", f"mine/{name}", "--dry_run")[0] == 0
    before = (tmp_path / "mine" / name).read_bytes()
    status, said = command("options", "copy", "quickstart.yml", name, "--folder", "mine")
    assert status == 2 and "there already" in said
    assert (tmp_path / "mine" / name).read_bytes() == before and len(list((tmp_path / "mine").iterdir())) == 1
