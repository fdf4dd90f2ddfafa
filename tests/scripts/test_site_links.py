"""The hooks of the site: links that leave docs/, and pages that would load something from another host."""

from types import SimpleNamespace

import pytest

from site_links import on_page_markdown, on_post_page

HOME, TUTORIAL = (SimpleNamespace(file=SimpleNamespace(src_uri=name)) for name in ("index.md", "tutorials/engineer.md"))


def test_links_out_of_the_site_become_names() -> None:
    text = "[the card](../atbsn/weights/real.md#real), [the page](page.md)"
    assert on_page_markdown(text, HOME) == "the card (`atbsn/weights/real.md` in the repository), [the page](page.md)"
    assert on_page_markdown("[results](../results.md)", TUTORIAL) == "[results](../results.md)"
    assert on_page_markdown("[Security](../../SECURITY.md)", TUTORIAL) == "Security (`SECURITY.md` in the repository)"


def test_pages_load_nothing_from_elsewhere() -> None:
    fine = '<script src="assets/a.js"></script><img src="images/b.png"><a href="https://arxiv.org/abs/1">paper</a>'
    assert on_post_page(fine, HOME) == fine
    for page in (
        '<script src="https://unpkg.com/shim"></script>',
        "<link rel=stylesheet href=//fonts.example/a.css>",
        "<img alt='x' src='http://example.org/c.png'>",
    ):
        with pytest.raises(ValueError, match=r"index.md: loads (https?:)?//"):
            on_post_page(page, HOME)
