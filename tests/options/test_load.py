"""Option files: YAML as people mean it, inheritance, overrides, and messages that name the place."""

import pytest

from atbsn.options.load import apply_override, find_option_file, merge, parse_yaml, read_options
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
def test_values_are_what_they_look_like(text, value):
    parsed = parse_yaml(text, "x.yml")
    assert parsed == value and type(parsed) is type(value)


def test_anchors_and_merges():
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
def test_what_is_malformed_is_named_with_its_place(text, said):
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "x.yml")
    message = str(caught.value)
    assert said in message and message.endswith("; mend the file") and len(message) < 500


def test_a_laugh_a_billion_times():
    """Nine levels of ten aliases: a kilobyte that stands for a billion values."""
    lines = ["a0: &a0 [lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(UserError, match="each alias counted"):
        parse_yaml("\n".join(lines), "x.yml")


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.yml").write_text(text)


def test_options_inherit(tmp_path):
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
        ({"top": "base: none.yml"}, "none.yml (the 'base' of"),
        ({"top": "base: ''"}, "cannot be read: Is a directory"),
        ({"top": "base: [a.yml]"}, "base: ['a.yml'] is not a file name; give one path"),
        ({"top": "base: 3"}, "base: 3 is not a file name"),
        ({"top": "- a"}, "holds list, but options are a mapping"),
        ({"top": ""}, "holds NoneType, but options are a mapping"),
        ({"top": "base: other.yml", "other": "[a"}, "other.yml, line 1"),
    ],
)
def test_faults_of_inheritance(tmp_path, files, said):
    write(tmp_path, **files)
    with pytest.raises(UserError) as caught:
        read_options(tmp_path / "top.yml")
    assert said in str(caught.value)


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "top.yml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UserError, match="it is not UTF-8 text"):
        read_options(tmp_path / "top.yml")


def test_merging():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merge(base, {"a": {"c": [3]}, "d": {"e": 5}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 5}}
    assert merge(base, {"a": None}) == {"a": None, "d": 4}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_a_mapping_of_another_type_replaces():
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
def test_assignments(assignment, changed):
    assert apply_override({"train": {"optim": {"lr": 1, "type": "Adam"}}}, assignment) == changed


@pytest.mark.parametrize("assignment", ["name", "", "=3", ".=3", "a.=3", ".a=3", "a..b=3"])
def test_what_is_no_assignment(assignment):
    with pytest.raises(UserError, match=r"--set .*: not of the form key.subkey=value, such as train.total_iter=1000"):
        apply_override({}, assignment)


def test_an_assignment_that_is_no_yaml():
    with pytest.raises(UserError, match=r"--set a\.b, line 1.*not valid YAML"):
        apply_override({}, "a.b=[1")


def test_option_files_are_found_by_name(tmp_path, monkeypatch):
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
