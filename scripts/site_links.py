"""Hooks of MkDocs: links to files outside of docs/ become their names, and pages load nothing from other hosts."""

import re
from typing import Any

_OUTWARD = re.compile(r"\[([^\]]*)\]\((?:\.\./)+(?!docs/)([\w./-]+)(?:#[\w-]+)?\)")
"""A link that leads up: its text, and the path without the steps."""
_FOREIGN = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)", re.I)
"""An element that makes a browser load something from another host."""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the links in the text of a page. From docs/tutorials/, one step up still leads to docs/."""
    depth = page.file.src_uri.count("/")

    def replaced(link: re.Match[str]) -> str:
        steps = link[0].count("../")
        return link[0] if steps <= depth else f"{link[1]} (`{link[2]}` in the repository)"

    return _OUTWARD.sub(replaced, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Check a finished page, and return it unchanged.

    Raises:
        ValueError: it loads something from another host.
    """
    foreign = _FOREIGN.findall(output)
    if foreign:
        raise ValueError(f"{page.file.src_uri}: loads {', '.join(foreign)}; the site is to load nothing from elsewhere")
    return output
