"""Option files: YAML as people mean it, inheritance, overrides, and messages that name the place."""

from pathlib import Path
from typing import Any

import pytest

from atbsn.options import option_files, read_layers
from atbsn.options.files import find_option_file
from atbsn.options.load import apply_override, merge, parse_yaml, read_options
from atbsn.utils.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1E5", 1e5),
        ("+3.e2", 300.0),
        (".5", 0.5),
        ("-1.5e+3", -1500.0),
        ("8", 8),
        ("-0", 0),
        ("1_000", 1000),
        ("true", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("2024-01-01", "2024-01-01"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("3e-4x", "3e-4x"),
        ("'8'", "8"),
        ("[1, 2.0, x]", [1, 2.0, "x"]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("größer", "größer"),
    ],
)
def test_values_are_what_they_look_like(text: str, value: Any) -> None:
    parsed = parse_yaml(text, "x.yml")
    assert parsed == value and type(parsed) is type(value)


def test_anchors_and_merges() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n"
    assert parse_yaml(text, "x.yml") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "x.yml, line 3, column 1: not valid YAML: key 'a' stands twice; keep one"),
        ("a:\n  b: {c: 1, c: 1}", "x.yml, line 2, column 13: not valid YAML: key 'c' stands twice"),
        ("a: [1, 2", "x.yml, line 1, column 9: not valid YAML"),
        ("a: 1\n\tb: 2", "line 2, column 1: not valid YAML"),
        ("a: b: c", "line 1, column 5"),
        ("1: 2", "line 1, column 1: not valid YAML: a key is not text; quote it"),
        ("on: 2", "a key is not text; quote it"),
        ("? [a, b]\n: c", "a key is not text"),
        ("? {a: b}\n: c", "a key is not text"),
        ("a: *b", "undefined alias"),
        ("a: &a [*a]", "10,000 values or 20 levels"),
        ("[" * 30 + "]" * 30, "10,000 values or 20 levels"),
        ("[" * 3000, "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: !!int ''", "not valid YAML"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!float x", "not valid YAML"),
        ("a: !!timestamp x", "could not determine a constructor"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: !!set {b}", "could not determine a constructor"),
        ("a: !!binary aGk=", "could not determine a constructor"),
        ('a: "\\0"', "a NUL among them"),
        ('a: "\\ud800"', "surrogates not allowed"),
        ("a: " + "x" * 5000, "more than 4096 characters"),
        ("a: 1\n--- \nb: 2", "expected a single document"),
        ("a: \x07", "not valid YAML"),
    ],
)
def test_what_is_malformed_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "x.yml")
    message = str(caught.value)
    assert said in message and message.endswith("; mend the file") and len(message) < 500


def test_a_laugh_a_billion_times() -> None:
    """Nine levels of ten aliases: a kilobyte that stands for a billion values."""
    lines = ["a0: &a0 [lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(UserError, match="each alias counted"):
        parse_yaml("\n".join(lines), "x.yml")


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.yml").write_text(text)


def test_options_inherit(tmp_path: Path) -> None:
    write(
        tmp_path,
        base__first="name: a\ntrain: {total_iter: 9, optim: {type: Adam, lr: 1, betas: [0.9, 0.99]}}\n",
        base__second="base: first.yml\nname: b\ntrain: {optim: {lr: 2, betas: [0.5]}}\n",
        top="base: base/second.yml\ntrain: {total_iter: ~}\n",
    )
    optim = {"type": "Adam", "lr": 2, "betas": [0.5]}
    assert read_options(tmp_path / "top.yml") == {"name": "b", "train": {"total_iter": None, "optim": optim}}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"top": "base: top.yml"}, "'base' leads back to itself: top.yml -> top.yml"),
        ({"top": "base: other.yml", "other": "base: top.yml"}, "leads back to itself: top.yml -> other.yml -> top.yml"),
        ({"top": "base: none.yml"}, "top.yml: base: none.yml: no such option file"),
        ({"top": "base: ''"}, "base: '' is not a file name"),
        ({"top": "base: [a.yml]"}, "base: a.yml: no such option file"),
        ({"top": "base: [a.yml, 3]"}, "base: ['a.yml', 3] is not a file name, nor a list of them"),
        ({"top": "base: 3"}, "base: 3 is not a file name"),
        ({"top": "- a"}, "holds list, but options are a mapping"),
        ({"top": ""}, "holds NoneType, but options are a mapping"),
        ({"top": "base: other.yml", "other": "[a"}, "other.yml, line 1"),
    ],
)
def test_faults_of_inheritance(tmp_path: Path, files: dict[str, str], said: str) -> None:
    write(tmp_path, **files)
    with pytest.raises(UserError) as caught:
        read_options(tmp_path / "top.yml")
    assert said in str(caught.value)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "top.yml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match="it is not UTF-8 text"):
        read_options(tmp_path / "top.yml")


def test_merging() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merge(base, {"a": {"c": [3]}, "d": {"e": 5}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 5}}
    assert merge(base, {"a": None}) == {"a": None, "d": 4}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_null_takes_out_what_has_a_name_of_ones_own() -> None:
    """An entry of ``datasets`` or ``val.metrics``; anywhere else it is a value, as is one that takes out nothing."""
    base = {"val": {"metrics": {"psnr": {"type": "psnr"}, "ssim": {"type": "ssim"}}, "val_freq": 9}}
    assert merge(base, {"val": {"metrics": {"ssim": None}}})["val"]["metrics"] == {"psnr": {"type": "psnr"}}
    assert apply_override(base, "val.metrics.psnr=~")["val"]["metrics"] == {"ssim": {"type": "ssim"}}
    assert merge(base, {"val": {"metrics": {"ssmi": None}}})["val"]["metrics"]["ssmi"] is None
    assert merge({"datasets": {"val": {"type": "DND"}}}, {"datasets": {"val": None}}) == {"datasets": {}}
    assert merge(base, {"val": {"val_freq": None}})["val"]["val_freq"] is None
    network = {"network": {"metrics": {"ssim": {"type": "ssim"}}}}
    assert merge(network, {"network": {"metrics": {"ssim": None}}}) == {"network": {"metrics": {"ssim": None}}}


def test_a_mapping_of_another_type_replaces() -> None:
    """The arguments of one class mean nothing to another."""
    base = {"optim": {"type": "Adam", "lr": 1, "betas": [0.9, 0.99]}}
    assert merge(base, {"optim": {"type": "SGD", "lr": 2}}) == {"optim": {"type": "SGD", "lr": 2}}
    assert merge(base, {"optim": {"type": "Adam", "lr": 2}})["optim"]["betas"] == [0.9, 0.99]


@pytest.mark.parametrize(
    ("assignment", "changed"),
    [
        ("train.optim.lr=3e-4", {"train": {"optim": {"lr": 3e-4, "type": "Adam"}}}),
        ("name=x=y", {"name": "x=y", "train": {"optim": {"lr": 1, "type": "Adam"}}}),
        ("val.k=[0, 1]", {"val": {"k": [0, 1]}, "train": {"optim": {"lr": 1, "type": "Adam"}}}),
        ("train={}", {"train": {"optim": {"lr": 1, "type": "Adam"}}}),
        ("train.optim=~", {"train": {"optim": None}}),
        (" name = x", {"name": "x", "train": {"optim": {"lr": 1, "type": "Adam"}}}),
        ("name=", {"name": None, "train": {"optim": {"lr": 1, "type": "Adam"}}}),
    ],
)
def test_assignments(assignment: str, changed: dict[str, Any]) -> None:
    assert apply_override({"train": {"optim": {"lr": 1, "type": "Adam"}}}, assignment) == changed


@pytest.mark.parametrize("assignment", ["name", "", "=3", ".=3", "a.=3", ".a=3", "a..b=3"])
def test_what_is_no_assignment(assignment: str) -> None:
    with pytest.raises(UserError, match=r"--set .*: not of the form key.subkey=value, such as train.total_iter=1000"):
        apply_override({}, assignment)


def test_an_assignment_that_is_no_yaml() -> None:
    with pytest.raises(UserError, match=r"--set a\.b, line 1.*not valid YAML"):
        apply_override({}, "a.b=[1")


def test_option_files_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, repository__options__train__one="", repository__options__base__two="", here__options__one="")
    here, repository = tmp_path / "here", tmp_path / "repository"
    monkeypatch.chdir(here)
    assert find_option_file("options/one.yml", repository / "options").samefile(here / "options" / "one.yml")
    assert find_option_file("one.yml", repository / "options").samefile(
        here / "options" / "one.yml"
    )  # one's own comes first
    assert find_option_file("two.yml", repository / "options") == repository / "options" / "base" / "two.yml"
    for name in ("tow.yml", "somewhere/tow.yml"):
        with pytest.raises(UserError, match=r"tow\.yml: no such option file.*did you mean 'two\.yml'\?"):
            find_option_file(name, repository / "options")
    for name in ("options", "", "."):
        with pytest.raises(UserError, match="no such option file"):
            find_option_file(name, repository / "options")


def test_several_bases_lie_over_one_another(tmp_path: Path) -> None:
    write(
        tmp_path,
        first="name: a\nnetwork: {type: A, width: 1}\n",
        second="data: b\nnetwork: {width: 2}\n",
        top="base: [first.yml, second.yml]\nnetwork: {depth: 3}\n",
    )
    network = {"type": "A", "width": 2, "depth": 3}
    assert read_options(tmp_path / "top.yml") == {"name": "a", "data": "b", "network": network}


def test_a_base_is_found_by_name_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, mine="base: quickstart.yml\nname: mine\n")
    options = read_options(tmp_path / "mine.yml")
    assert options["name"] == "mine" and options["datasets"]["train"]["type"] == "SimulatedCamera"


def test_what_is_shipped_lies_over_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the same names in options/ here are found by -opt, and no shipped file is laid over them."""
    write(tmp_path, options__atbsn="name: mine\n", options__quickstart="base: atbsn.yml\n")
    monkeypatch.chdir(tmp_path)
    assert read_options(find_option_file("quickstart.yml")) == {"name": "mine"}
    shipped = next(path for path in option_files() if path.name == "quickstart.yml")
    assert read_options(shipped)["name"] == "quickstart" and "network" in read_options(shipped)


def test_anchors_have_a_place(tmp_path: Path) -> None:
    write(tmp_path, top="x-small: &small {width: 2}\nnetwork: {<<: *small, type: A}\nx-9: [\n1]\n")
    assert read_options(tmp_path / "top.yml") == {"network": {"type": "A", "width": 2}}


METHOD = """\
name: m_{data}
train: {total_iter: 100, scheduler: {type: Step, step_size: 10}}
model: {type: M, teacher: "experiments/t_{data}/net.pth"}
on_data: {little: {train: {total_iter: 5}}}
"""


@pytest.mark.parametrize(
    ("data", "overrides", "total_iter"),
    [
        ("data: large", [], 100),
        ("data: little", [], 5),
        ("data: little\ntrain: {total_iter: 7}", [], 7),  # the data's own file lies over what the method says of it
        ("data: little", ["train.total_iter=9"], 9),
        ("data: little", ["data=large"], 5),  # it is still the file of the little data
        ("seed: 0", ["data=little"], 5),
        ("seed: 0", ["data=little", "train.total_iter=8"], 8),
    ],
)
def test_a_method_is_told_of_data_by_their_name(
    tmp_path: Path, data: str, overrides: list[str], total_iter: int
) -> None:
    write(tmp_path, method=METHOD, data=data)
    options = read_layers([tmp_path / "method.yml", tmp_path / "data.yml"], overrides)
    named = overrides[0].partition("=")[2] if overrides and overrides[0].startswith("data") else data.split()[1]
    assert options["train"]["total_iter"] == total_iter and "on_data" not in options
    assert options["name"] == f"m_{named}" and options["model"]["teacher"] == f"experiments/t_{named}/net.pth"


def test_data_lie_between_a_method_and_what_uses_both(tmp_path: Path) -> None:
    write(tmp_path, method=METHOD, data="data: little", top="base: [method.yml, data.yml]\ntrain: {total_iter: 6}\n")
    assert read_layers([tmp_path / "top.yml"])["train"]["total_iter"] == 6
    write(tmp_path, both="base: method.yml\ndata: little\ntrain: {total_iter: 3}\n")
    assert read_layers([tmp_path / "both.yml"])["train"]["total_iter"] == 3


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (METHOD, "name: 'm_{data}' is named by its data, and none are given; lay a data file over the method"),
        ("data: a\non_data: 3", "on_data: 3: not a mapping of names of data to options"),
        ("data: a\non_data: {a: 3}", "not a mapping of names of data to options"),
        ("data: a\non_data: {a: {data: b}}", "on_data.a.data: cannot stand here; leave it out"),
        ("data: 3\nname: x_{data}", "and none are given"),
    ],
)
def test_faults_of_data(tmp_path: Path, method: str, said: str) -> None:
    write(tmp_path, method=method)
    with pytest.raises(UserError) as caught:
        read_layers([tmp_path / "method.yml"])
    assert said in str(caught.value)
