"""docs/options.md is what the code declares."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import MinLen
from pydantic import Field

from atbsn.utils.types import Fraction, PositiveInt
from document_options import PAGE, page, spell


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python scripts/document_options.py"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (PositiveInt | None, "integer > 0, or none"),
        (Fraction, "number >= 0 and <= 1"),
        (Annotated[int, Field(gt=0, le=9)], "integer > 0 and <= 9"),
        (Literal["a", "b"] | bool, "`a`, `b`, or true or false"),
        (Annotated[list[int], MinLen(2)], "list of integer of at least 2"),
        (list[int | Literal["mean"]], "list of (integer, or `mean`)"),
        (tuple[float, float], "[number, number]"),
        (str | Path, "text, or path"),
        (dict[str, Any], "mapping"),
    ],
)
def test_types_in_words(annotation: Any, words: str) -> None:
    assert spell(annotation) == words
