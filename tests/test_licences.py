"""docs/licences.md names what is installed, and the terms of the weights that travel with the package."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "licences.md").read_text(encoding="utf-8")
OUR_TOOLS = {"dev", "docs", "mutants"}
"""Extras for those who work on the package: nobody gets them with it."""


def names(text: str) -> set[str]:
    """The packages in quotation marks: ``"pillow-heif>=1.1"``."""
    return {re.split(r"[\[<>=;~]", each)[0].strip() for each in re.findall(r'"([^"]+)"', text)}


def test_every_package_has_a_licence_there() -> None:
    required = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").split()
    needed = {re.split(r"[<>=]", each)[0] for each in required}
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    table = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    for extra, packages in re.findall(r"^(\w+) = (\[[^\]]*\])", table, re.MULTILINE):
        if extra not in OUR_TOOLS:
            needed |= names(packages)
    assert {"torch", "starlette"} <= needed
    unnamed = {name for name in needed if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", PAGE)}
    assert not unnamed, f"docs/licences.md does not say under which terms they are: {', '.join(sorted(unnamed))}"


@pytest.mark.parametrize("card", sorted((REPOSITORY / "atbsn" / "weights").glob("*.md")), ids=lambda path: path.stem)
def test_the_terms_of_weights_are_those_of_their_card(card: Path) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{card.stem}` |")]
    terms = re.search(r"\*\*Terms\*\* ([^.;(]*)", card.read_text(encoding="utf-8"))[1].strip()
    assert terms in row and f"({Path('../atbsn/weights', card.name).as_posix()})" in row
