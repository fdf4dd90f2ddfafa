"""The page for people who do not see it, or use no mouse: names, contrast, keys, what is said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.page_browser import axe, choose, find, names, needs_browser, open_page, served, violations, visit, wait
from helpers.page_support import blind_network, write_photo
from selenium.webdriver.common.keys import Keys

pytestmark = needs_browser
WIDE, NARROW = (1280, 800), (320, 700)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with served(blind_network(), adapt=lambda *_: (None, "It did not help.")) as found:
        yield found


@pytest.fixture
def opened(server: Any, driver: Any, tmp_path: Path) -> None:
    """The page with two pictures in it."""
    open_page(driver, server[0], *(write_photo(tmp_path / name, 400, 1270) for name in ("a.png", "b.png")))


def said(driver: Any) -> list[str]:
    """What was read out, the newest last."""
    return driver.execute_script("return [...document.querySelectorAll('#announcements p')].map((p) => p.textContent)")


def look(driver: Any, scheme: str, size: tuple[int, int]) -> None:
    """Have the screen light or dark, and of this size."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == NARROW}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing(server: Any, driver: Any, tmp_path: Path, scheme: str, size: tuple[int, int]) -> None:
    source = axe()
    visit(driver, server[0])
    look(driver, scheme, size)
    assert not violations(driver, source)
    bad = tmp_path / "letter.png"
    bad.write_text("Dear server,")
    find(driver, "#file").send_keys("\n".join(map(str, [bad, write_photo(tmp_path / "a.png"), tmp_path / "a.png"])))
    wait(driver, lambda: len(names(driver)) == 2 and find(driver, "#noise").is_displayed())
    find(driver, "[data-tool=brush]").click()
    find(driver, "#invert").click()
    driver.execute_script("document.getElementById('note').hidden = false; note.firstChild.textContent = 'A note.'")
    assert find(driver, "#error").is_displayed() and find(driver, "#tool-settings").is_displayed()
    assert not violations(driver, source)


def test_axe_would_find_what_is_wrong(driver: Any, opened: None) -> None:
    source = axe()
    driver.execute_script("document.getElementById('after').removeAttribute('aria-label')")
    driver.execute_script("document.getElementById('facts').style.color = '#888'")
    assert set(violations(driver, source)) == {"role-img-alt", "color-contrast"}


def test_canvases_are_named_after_their_picture(driver: Any, opened: None) -> None:
    choose(driver, "b.png")
    named = {name: find(driver, f"#{name}").get_attribute("aria-label") for name in ("before", "after")}
    assert named == {"before": "b.png, before", "after": "b.png, after"}
    for canvas in ("loupe-before", "loupe-after"):
        assert "b.png" in find(driver, f"#{canvas}").get_attribute("aria-label")


def test_what_is_chosen_is_said(driver: Any, opened: None) -> None:
    choose(driver, "b.png")
    wait(driver, lambda: "b.png, 2 of 2, is shown." in said(driver))
    assert find(driver, "#pictures [aria-current='true']").text == "b.png"
    assert find(driver, "#strength").get_attribute("aria-valuetext") == "100 %"
    assert find(driver, "#hole").get_attribute("aria-valuetext") == "k = 3"
    find(driver, "[data-tool=gradient]").click()
    assert [find(driver, f"[data-tool={tool}]").get_attribute("aria-pressed") for tool in ("loupe", "gradient")] == [
        "false",
        "true",
    ]
    find(driver, "[aria-label='Remove b.png']").send_keys(Keys.ENTER)
    wait(driver, lambda: names(driver) == ["a.png"])
    assert driver.switch_to.active_element.get_attribute("title") == "a.png"  # the focus is not lost


def test_the_loupe_by_keyboard(driver: Any, opened: None) -> None:
    panes, place = find(driver, "#panes"), find(driver, "#place")

    def position() -> dict[str, float]:
        style = place.get_attribute("style")
        return {part.split(":")[0].strip(): float(part.split(":")[1].strip(" %")) for part in style.split(";") if part}

    before = position()
    panes.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    small = position()
    assert 0 < small["left"] - before["left"] < before["width"] / 5
    assert 0 < small["top"] - before["top"] < before["height"] / 5
    panes.send_keys(Keys.SHIFT, Keys.ARROW_LEFT)
    assert small["left"] - position()["left"] > before["width"] / 2
    panes.send_keys(*[Keys.ARROW_LEFT] * 40)
    assert position()["left"] == 0
    panes.send_keys(Keys.ARROW_RIGHT)
    assert position()["left"] > 0  # at once, however often it was sent against the border
    panes.send_keys("+")
    assert find(driver, "[data-zoom='2']").get_attribute("aria-pressed") == "true"
    assert position()["width"] == pytest.approx(before["width"] / 2, abs=0.1)
    wait(driver, lambda: said(driver)[-1].startswith("Loupe at ") and said(driver)[-1].endswith("2:1"))
    panes.send_keys("-", "-", Keys.HOME)
    assert position() == before
