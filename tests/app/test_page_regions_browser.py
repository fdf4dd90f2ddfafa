"""Regions on the page in a real browser: what is painted is what is left alone, in the loupe and in the file."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.page_browser import (
    assert_shown,
    find,
    needs_browser,
    open_page,
    pixels,
    ready,
    served,
    shown,
    slide,
    wait,
)
from helpers.page_support import blind_network, write_photo
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from atbsn.app.page.regions import mask_file
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.pipeline.run import denoise_file
from atbsn.engine.inference.pipeline.task import Task
from atbsn.pictures import read_mask, read_picture

pytestmark = needs_browser
SET = "document.getElementById(arguments[0]).value = arguments[1];"


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with served(blind_network()) as found:
        yield found


class Painter:
    """The page with a picture in it, and a hand that paints on it."""

    def __init__(self, driver: Any, page: Any, path: Path) -> None:
        self.driver, self.page, self.path = driver, page, path

    def choose(self, tool: str, **sliders: float) -> None:
        find(self.driver, f"[data-tool={tool}]").click()
        for name, value in sliders.items():
            self.driver.execute_script(SET, name, value)

    def drag(self, start: tuple[float, float], *others: tuple[float, float], on: str = "#frame") -> None:
        """Along points in shares of an element's width and height."""
        element = find(self.driver, on)
        size = element.size

        def offset(point: tuple[float, float]) -> list[int]:
            return [round((share - 0.5) * size[side]) for share, side in zip(point, ("width", "height"), strict=True)]

        action = webdriver.ActionChains(self.driver, duration=20)
        action.move_to_element_with_offset(element, *offset(start)).click_and_hold()
        for point in others:
            action.move_to_element_with_offset(element, *offset(point))
        action.release().perform()

    def mask(self) -> np.ndarray | None:
        """(H, W) of the picture, as the server has it once it has what is painted; None where there is none."""
        wait(self.driver, lambda: self.driver.execute_async_script(SAVED))
        (session,) = (s for s in self.page.sessions._sessions.values() if not s.left)
        (upload,) = session.pictures.values()
        data = mask_file(upload)
        return None if data is None else np.asarray(Image.open(io.BytesIO(data)))

    def expected(self, tmp_path: Path) -> Path:
        """What the command makes of the picture under this mask."""
        Image.fromarray(self.mask()).save(tmp_path / "mask.png")
        task = Task("a", tmp_path / "expected.png", self.path, mask=tmp_path / "mask.png")
        denoise_file(task, photo_denoiser(self.page.studio.net))
        return task.target


SAVED = """
const done = arguments[0];
import("/static/dom.js").then(({ state }) => done(!state.current.saving && !state.current.unsaved));
"""


PART = """
const [area, done] = arguments;
import("/static/dom.js").then(({ state }) => done(Array.from(state.current.mask.part(area, state.current))));
"""


@pytest.fixture
def painter(server: Any, driver: Any, tmp_path: Path) -> Painter:
    path = write_photo(tmp_path / "night.png", height=90, width=140)
    open_page(driver, server[0], path)
    return Painter(driver, server[1], path)


def test_the_brush_leaves_alone_what_it_paints(driver: Any, painter: Painter, tmp_path: Path) -> None:
    painter.choose("brush", size=20, amount=0)
    painter.drag((0.2, 0.5), (0.3, 0.5), (0.4, 0.5))
    mask = painter.mask()
    assert mask.shape == (90, 140)
    assert not mask[45, 28:57].any() and (mask[:25] == 255).all() and (mask[:, 75:] == 255).all()
    assert len(np.unique(mask)) > 10  # its edge is soft
    expected = read_picture(painter.expected(tmp_path)).rgb.astype(int)
    assert np.array_equal(expected[45, 28:57], read_picture(painter.path).rgb[45, 28:57])
    wait(driver, lambda: np.abs(pixels(driver, "after") - expected).max() <= 1)
    assert_shown(driver, expected)
    assert np.array_equal(pixels(driver, "loupe-after"), pixels(driver, "after"))
    assert find(driver, "#left-alone").is_displayed()
    red = pixels(driver, "left-alone")
    assert red[45, 28:57].all() and not red[:25].any()

    find(driver, "#download").click()
    target = driver.downloads / "night_clean.png"
    wait(driver, target.is_file)
    wait(driver, lambda: target.read_bytes() == painter.expected(tmp_path).read_bytes())
    find(driver, "#mask-file").click()
    target = driver.downloads / "night_mask.png"
    wait(driver, lambda: target.is_file() and target.stat().st_size)
    wait(driver, lambda: np.array_equal(read_mask(target), mask))

    driver.refresh()
    ready(driver)
    wait(driver, lambda: shown(driver))
    assert_shown(driver, expected)  # a reload keeps it


def test_strokes_are_undone_and_turned_round(driver: Any, painter: Painter) -> None:
    painter.choose("brush", size=20, amount=0)
    undo, everywhere = find(driver, "#undo"), find(driver, "#everywhere")
    assert not undo.is_enabled() and not everywhere.is_enabled()
    find(driver, "#invert").click()
    assert not painter.mask().any()
    painter.choose("brush", size=30, amount=0.5)
    painter.drag((0.5, 0.2), (0.5, 0.2))
    mask = painter.mask()
    assert mask[18, 70] == 128 and mask.max() == 128 and not mask[:, :40].any()
    find(driver, "#invert").click()
    assert np.array_equal(painter.mask(), 255 - mask)
    undo.click()
    assert np.array_equal(painter.mask(), mask)
    undo.click()
    assert not painter.mask().any()
    everywhere.click()
    assert painter.mask() is None
    undo.click()
    undo.click()
    assert painter.mask() is None and not undo.is_enabled()


def test_a_gradient_falls_off_along_the_drag(driver: Any, painter: Painter) -> None:
    painter.choose("gradient", amount=0)
    painter.drag((0.25, 0.5), (0.1, 0.9), (0.75, 0.5))  # only its ends count
    row = painter.mask()[45].astype(int)
    assert not row[:34].any() and (row[106:] == 255).all()
    assert (np.diff(row) >= 0).all() and abs(row[70] - 128) < 6
    assert np.array_equal(painter.mask()[10], painter.mask()[80])


def test_what_a_stroke_paints_is_what_is_painted_anew(driver: Any, painter: Painter) -> None:
    """Of a stroke only the part that it changes is painted."""
    painter.choose("brush", size=20, amount=0)
    painter.drag((0.2, 0.3), (0.3, 0.9))
    painter.choose("brush", size=10, amount=0.7)
    painter.drag((0.1, 0.8), (0.45, 0.4), (0.02, 0.02), (0.9, 0.9))
    painter.mask()
    canvases = ("after", "left-alone", "loupe-after")
    before = [pixels(driver, canvas) for canvas in canvases]
    painter.choose("loupe")
    wait(driver, lambda: not find(driver, "#left-alone").is_displayed())
    painter.choose("brush")
    wait(driver, lambda: find(driver, "#left-alone").is_displayed())
    for canvas, painted in zip(canvases, before, strict=True):
        assert np.array_equal(pixels(driver, canvas), painted), canvas


def test_a_large_pictures_mask_is_the_same_in_the_loupe_and_in_the_file(
    server: Any, driver: Any, tmp_path: Path
) -> None:
    path = write_photo(tmp_path / "large.png", height=200, width=2000)
    open_page(driver, server[0], path)
    painter = Painter(driver, server[1], path)
    painter.choose("brush", size=4, amount=0)
    painter.drag((0.4, 0.5), (0.47, 0.2))
    mask = painter.mask()
    assert mask.shape == (200, 2000) and len(np.unique(mask)) > 10
    for left, top, width, height in ((700, 10, 300, 150), (0, 0, 512, 200), (1488, 0, 512, 200)):
        part = driver.execute_async_script(PART, [left, top, width, height])
        wanted = mask[top : top + height, left : left + width].astype(int)
        assert np.abs(np.reshape(part, wanted.shape) - wanted).max() <= 1


def test_the_loupe_is_painted_on_too(driver: Any, painter: Painter) -> None:
    find(driver, "[data-zoom='4']").click()
    painter.choose("brush", size=5, amount=0)
    painter.drag((0.5, 0.5), (0.5, 0.5), on="#loupe figure")
    mask = painter.mask()
    assert mask.min() == 0 and 5 < (mask < 255).sum() < 60
    assert abs(np.argwhere(mask == 0).mean(axis=0) - (45, 70)).max() < 3


def test_painting_by_keyboard(driver: Any, painter: Painter) -> None:
    painter.choose("brush", size=20, amount=0)
    panes = find(driver, "#panes")
    panes.send_keys(Keys.SPACE)
    mask = painter.mask()
    assert mask[45, 70] == 0 and mask[45, 20] == 255
    find(driver, "#everywhere").click()
    find(driver, "[data-zoom='4']").click()
    painter.choose("gradient", amount=0)
    panes.send_keys(Keys.SPACE)
    wait(driver, lambda: "begins here" in find(driver, "#announcements").get_attribute("textContent"))
    assert painter.mask() is None
    panes.send_keys(*[Keys.ARROW_RIGHT] * 5, Keys.SPACE)
    row = painter.mask()[45].astype(int)
    assert row[60] == 0 and row[-1] > 128 and (np.diff(row) >= 0).all()


def test_a_tool_is_for_painting_the_loupe_for_looking(driver: Any, painter: Painter) -> None:
    painter.drag((0.2, 0.5), (0.4, 0.5))
    assert painter.mask() is None
    slide(driver, "strength", 0, " 0")
    painter.choose("brush")
    painter.choose("loupe")
    assert not find(driver, "#tool-settings").is_displayed()
    painter.drag((0.2, 0.5), (0.4, 0.5))
    assert painter.mask() is None
