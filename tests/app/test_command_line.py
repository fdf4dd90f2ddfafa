"""The atbsn command: what it answers before anything heavy is imported, and how it starts what it is asked for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.kinds import Command

from atbsn.app import project_arguments
from atbsn.app.arguments import COMMANDS, atbsn_parser, command_parser

START = "from atbsn.app import main; main()"


def start(repository: Path, *arguments: str, code: str = START, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", f"import sys; sys.argv[0] = 'atbsn'; {code}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(repository: Path, arguments: list[str]) -> None:
    code = (
        "import atexit, sys; atexit.register(lambda: print(sorted({'torch', 'numpy', 'pydantic'} & set(sys.modules))));"
    )
    process = start(repository, *arguments, code=code + START)
    said, errors = process.communicate()
    assert process.returncode == 0 and said.endswith("[]\n") and not errors
    assert arguments[0] == "--help" or COMMANDS[arguments[0]].help[1:] in " ".join(said.split())


def test_every_command_has_its_module() -> None:
    from importlib import import_module

    for name in sorted(COMMANDS.keys() - {"serve"}):  # the page needs its extra
        assert callable(import_module(f"atbsn.app.commands.{name}").main)


def test_no_command_shows_the_help(repository: Path) -> None:
    process = start(repository)
    said, _ = process.communicate()
    assert process.returncode == 2 and "denoise" in said


def test_ctrl_c_while_importing_is_no_traceback(repository: Path, tmp_path: Path) -> None:
    slow = tmp_path / "torch"
    slow.mkdir()
    (slow / "__init__.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    code = f"sys.path.insert(0, {str(tmp_path)!r}); " + START
    process = start(repository, "models", code=code)
    assert process.stdout.readline() == "importing\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and errors == "interrupted\n"


@pytest.mark.parametrize("spelling", ["-opt", "--opt"])
@pytest.mark.parametrize("resume", ["--auto_resume", "--auto-resume"])
def test_spellings(spelling: str, resume: str) -> None:
    arguments = command_parser("train").parse_args([spelling, "x.yml", resume])
    assert arguments.opt == ["x.yml"] and arguments.auto_resume
    assert atbsn_parser().parse_args(["train", spelling, "x.yml"]).command == "train"


def test_several_inputs() -> None:
    arguments = command_parser("test").parse_args(["-opt", "x.yml", "--input", "a.png", "b.png", "--output", "c"])
    assert arguments.input == ["a.png", "b.png"]


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("0.5", 0.5)])
def test_words_and_numbers(text: str, value: float | str) -> None:
    assert command_parser("denoise").parse_args(["a.png", "--detail", text]).detail == value


@pytest.mark.parametrize("text", ["1e", "-", "3.5"])
def test_what_is_neither(text: str) -> None:
    with pytest.raises(SystemExit):
        command_parser("denoise").parse_args(["a.png", f"--k={text}"])


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("train.py", "train"),
        ("valid.py", "valid"),
        ("test.py", "test"),
        ("scripts/compare.py", "compare"),
        ("scripts/sweep.py", "sweep"),
        ("scripts/report.py", "report"),
        ("scripts/prepare_data.py", "prepare"),
        ("scripts/convert_weights.py", "convert"),
        ("scripts/export_onnx.py", "export"),
    ],
)
def test_scripts_are_other_names_of_commands(script: str, name: str, command: Command) -> None:
    status, said = command(script, "--help")
    assert status == 0 and COMMANDS[name].help[1:] in " ".join(said.split())


def test_choices_are_those_of_the_engine() -> None:
    """They are written out where arguments are read, so that help imports nothing heavy."""
    from atbsn.data.store import known
    from atbsn.engine.reports import figures, tables

    for name, written, known_there in (
        ("FORMATS", set(project_arguments.FORMATS), set(tables.FORMAT_SUFFIXES)),
        ("FIGURES", project_arguments.FIGURES, tuple(figures.PAINTERS)),
        ("SOURCES", set(project_arguments.SOURCES), set(known.SOURCES)),
        ("CHECKED", project_arguments.CHECKED, (*known.SETS, known.PREPARED)),
    ):
        assert written == known_there, f"{name} of atbsn/app/project_arguments.py has to name {known_there}"
