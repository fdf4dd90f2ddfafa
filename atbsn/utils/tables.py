"""Tables as text."""

import csv
import io
from collections.abc import Iterable
from typing import Any


def format_csv(columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> str:
    """Write rows as CSV text with a header line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, tuple(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
