"""A hook of MkDocs that replaces links to files outside of docs/ by their names, because the site has only docs/."""

import re
from typing import Any

_OUTWARD = re.compile(r"\[([^\]]*)\]\((?:\.\./)+(?!docs/)([\w./-]+)(?:#[\w-]+)?\)")
"""A link that leads up: its text, and the path without the steps."""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the links in the text of a page. From docs/tutorials/, one step up still leads to docs/."""
    depth = page.file.src_uri.count("/")

    def replaced(link: re.Match[str]) -> str:
        steps = link[0].count("../")
        return link[0] if steps <= depth else f"{link[1]} (`{link[2]}` in the repository)"

    return _OUTWARD.sub(replaced, markdown)
