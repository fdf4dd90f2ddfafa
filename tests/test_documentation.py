"""What the documentation names exists: option files, scripts, flags, headings; what is imported is required."""

import argparse
import ast
import contextlib
import fnmatch
import io
import re
import runpy
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import atbsn
from atbsn.app import main
from atbsn.app.arguments import COMMANDS as ATBSN
from atbsn.app.arguments import atbsn_parser
from atbsn.pictures.formats import CODECS

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [
    *(
        REPOSITORY / name
        for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "datasets/README.md")
    ),
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "docs" / "tutorials").glob("*.md")),
]
KNOWN = {"options.yml", "about.yml"} | {path.name for path in (REPOSITORY / "options").rglob("*.yml")}
"""Option files that bare names may stand for, and the files that every training and validation writes."""
COMMANDS: dict[str, Path | None] = {
    path.name: path
    for path in (*REPOSITORY.glob("*.py"), *(REPOSITORY / "scripts").glob("*.py"))
    if "__main__" in path.read_text()
} | {f"atbsn {name}": None for name in ATBSN}
"""By what they are called; those of ``atbsn`` have no file."""
COMMAND = re.compile(rf"\b({'|'.join(map(re.escape, COMMANDS))})\b(?: +([\w-]+))?")
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "tensorflow": "tensorflow-cpu",
    "yaml": "pyyaml",
}
"""Modules that are not named as what is installed for them."""


@pytest.fixture(params=PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_files_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"[\w./*-]*[\w*]\.yml", text):
        known = KNOWN | set(re.findall(r"^```yaml\n# (\S+)$", text, re.MULTILINE))  # or written out on the page
        assert any(REPOSITORY.glob(name.replace("../", "**/"))) or fnmatch.filter(known, name), (
            f"{name}: no such option file"
        )
    for name in re.findall(r"\b(?:scripts|tests|atbsn|docs)/[\w/]+\.(?:py|md)\b", text):
        assert (REPOSITORY / name).is_file() or "/my" in name, f"{name}: no such file"


def test_flags_are_accepted(page: Path) -> None:
    for flag, commands in named_flags(page.read_text()):
        known = {name for command in commands for name in accepted(*command)}
        if len(commands) > 1:  # in a text, which may speak of the atbsn command
            known |= atbsn_flags()
        assert flag in known, f"{flag}: no argument of {' or '.join(' '.join(command) for command in commands)}"


def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^()\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), f"{target}: leads nowhere"
        assert not anchor or anchor in anchors(linked.read_text()), f"{target}: no such heading"


def test_the_api_page_has_every_public_name() -> None:
    text = (REPOSITORY / "docs" / "api.md").read_text()
    shown = {line.rpartition(".")[2] for line in text.splitlines() if line.startswith("::: ")}
    missing = {name for name in atbsn.__all__ if name not in shown and f"`atbsn.{name}`" not in text}
    assert {"denoise", "Network", "Model"} <= shown and not missing, missing


@pytest.mark.parametrize("kind", ["method", "data"])
def test_the_table_of_methods_and_data_names_every_option_file(kind: str) -> None:
    text = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")
    for path in sorted((REPOSITORY / "options" / kind).glob("*.yml")):
        assert f"`{path.name}`" in text, (
            f"options/{kind}/{path.name}: give it a row in a table at the top of docs/methods.md"
        )


def test_the_table_of_pictures_names_every_format() -> None:
    named = "\n".join(re.findall(r"^\| ([^|]+)", (REPOSITORY / "docs" / "pictures.md").read_text(), re.MULTILINE))
    for codec in CODECS:
        assert codec.name in named, f"{codec.name}: give it a row in docs/pictures.md"


def test_nothing_is_left_to_fill_in(page: Path) -> None:
    left = re.findall(r"@[A-Z][A-Z0-9_]*@", page.read_text())
    assert not left, left


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("`train.py --nosuch` does", [("--nosuch", [("train.py", "")])]),
        ("`train.py` is told `--nosuch`", [("--nosuch", [("train.py", "")])]),
        ("```bash\ntorchrun --nnodes=2 train.py \\\n  --nosuch=1\n```", [("--nosuch", [("train.py", "")])]),
        ("```\nprepare_data.py speed X --whole\n```", [("--whole", [("prepare_data.py", "speed")])]),
        ("```\natbsn prepare speed X --whole\n```", [("--whole", [("atbsn prepare", "speed")])]),
        ("`atbsn report  x --nosuch`", [("--nosuch", [("atbsn report", "")])]),
        ("`tensorboard --logdir tb_logger`, or\n\n| a |\n|---|", []),
        ("- `valid.py` takes `--k`\n- ...", [("--k", [("valid.py", "")])]),
        ("- `valid.py`\n- `--k`", [("--k", [(script, "") for script in COMMANDS])]),
    ],
)
def test_flags_are_found(text: str, named: list[Any]) -> None:
    assert list(named_flags(text)) == named


def test_subcommands_accept_different_flags() -> None:
    assert "--whole" in accepted("prepare_data.py", "sidd") and "--whole" in accepted("prepare_data.py", "")
    assert "--whole" not in accepted("prepare_data.py", "speed") and "--k" not in accepted("train.py", "")
    assert "--whole" in accepted("atbsn prepare", "sidd") and "--whole" not in accepted("atbsn prepare", "speed")
    assert "--k" in accepted("atbsn valid", "") and "--k" not in accepted("atbsn train", "")


def test_what_is_imported_is_required() -> None:
    """What comes with something else may be gone, or of another version, tomorrow."""
    required = {distribution(line) for line in (REPOSITORY / "requirements.txt").read_text().splitlines()}
    project = (REPOSITORY / "pyproject.toml").read_text()
    extras = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    optional = {distribution(text) for text in re.findall(r'"(.+?)"', extras)}
    sources = [REPOSITORY / name for name in ("train.py", "valid.py", "test.py")]
    sources += [path for folder in ("atbsn", "scripts") for path in (REPOSITORY / folder).rglob("*.py")]
    found = set()
    for path in sources:
        apart = path.is_relative_to(REPOSITORY / "atbsn" / "app" / "page")  # imported by the command serve alone
        for module, always in imports(ast.parse(path.read_text())):
            always = always and not apart
            name = DISTRIBUTIONS.get(module, module.replace("_", "-"))
            assert name in (required if always else required | optional), f"{path}: {module}: {name} is not required"
            found.add(name)
    assert {"torch", "pillow", "annotated-types", "bm3d"} <= found  # the last one only in a function


def named_flags(text: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each flag of our commands, and the commands (script, sub-command) of which one should accept it.

    Of a line of code, the command that it follows; of a paragraph, any of those that the paragraph names, or any at
    all. What other programs are told is left out.
    """
    for number, part in enumerate(re.split(r"^```.*\n", text, flags=re.MULTILINE)):
        if number % 2:  # fenced
            for line in part.replace("\\\n", " ").splitlines():
                yield from _after_commands(line)
            continue
        for paragraph in re.split(r"\n\s*\n|\n(?=- )", part):
            names = [(script, "") for script in COMMANDS if re.search(rf"\b{re.escape(script)}\b", paragraph)]
            if any(name.startswith("atbsn ") for name, _ in names):  # of atbsn, whose other commands may be meant
                names = []
            for span in re.findall(r"`([^`]+)`", paragraph):
                if span.startswith("--"):
                    yield from ((flag, names or [(script, "") for script in COMMANDS]) for flag in FLAG.findall(span))
                else:
                    yield from _after_commands(span)


def _after_commands(line: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for flag in FLAG.finditer(line):
        commands = list(COMMAND.finditer(line, 0, flag.start()))
        if commands:
            script, word = commands[-1].groups("")
            yield flag[0], [(script, word if word in subcommands(script) else "")]


@cache
def atbsn_flags() -> set[str]:
    """The flags of ``atbsn`` and of its commands."""
    parsers = [atbsn_parser()]
    for action in parsers[0]._actions:
        if isinstance(action, argparse._SubParsersAction):
            parsers += action.choices.values()
    return {flag for parser in parsers for action in parser._actions for flag in action.option_strings}


@cache
def accepted(script: str, subcommand: str) -> set[str]:
    """The flags that a command's help lists; without ``subcommand`` those of all that it has."""
    flags = set(re.findall(r"^ +(?:-\w.*?, )?(--[\w-]+)", say_help(script, subcommand), re.MULTILINE))
    return flags.union(*(accepted(script, name) for name in ([] if subcommand else subcommands(script))))


def subcommands(script: str) -> list[str]:
    listed = re.search(r"\{([\w,-]+)\}\s+\.\.\.", say_help(script, ""))
    return listed[1].split(",") if listed else []


@cache
def say_help(script: str, subcommand: str) -> str:
    said = io.StringIO()
    arguments = [*script.split(), *([subcommand] if subcommand else []), "--help"]
    with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        main() if COMMANDS[script] is None else runpy.run_path(str(COMMANDS[script]), run_name="__main__")
    return said.getvalue()


def anchors(text: str) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def distribution(requirement: str) -> str:
    return re.match(r"[\w-]+", requirement)[0].lower()


def imports(node: ast.AST, always: bool = True) -> Iterator[tuple[str, bool]]:
    """The third-party modules that are imported in ``node``, and whether with the file or within a function."""
    for child in ast.iter_child_nodes(node):
        names = [alias.name for alias in child.names] if isinstance(child, ast.Import) else []
        if isinstance(child, ast.ImportFrom):
            names = [child.module]
        for name in names:
            module = name.split(".")[0]
            ours = module == "atbsn" or (REPOSITORY / "scripts" / f"{module}.py").exists()  # one script of another
            if module not in sys.stdlib_module_names and not ours:
                yield module, always
        later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield from imports(child, always and not later and not for_types)
