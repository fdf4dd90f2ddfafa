"""A hook of MkDocs for links from docs/ to other files: the site has docs/ alone, so they become their names."""

import re
from typing import Any

_OUTWARD = re.compile(r"\[([^\]]*)\]\((?:\.\./)+(?!docs/)([\w./-]+)(?:#[\w-]+)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page; from docs/tutorials/ one step up is still inside of docs/."""
    depth = page.file.src_uri.count("/")

    def replaced(link: re.Match[str]) -> str:
        steps = link[0].count("../")
        return link[0] if steps <= depth else f"{link[1]} (`{link[2]}` in the repository)"

    return _OUTWARD.sub(replaced, markdown)
