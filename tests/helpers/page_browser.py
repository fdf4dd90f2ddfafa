"""What the tests in a real browser share: the page at an address of its own, Chromium, what it shows."""

import contextlib
import importlib.util
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("selenium")
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from atbsn.app.page.application import Page
from atbsn.app.page.studio import Limits, Studio
from atbsn.archs.base import Network

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="needs chromium and chromium-driver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,800"
)
PATIENCE = 90
PIXELS = """
const canvas = document.getElementById(arguments[0]);
return [canvas.height, canvas.width,
        Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)];
"""
SLIDE = """
const slider = document.getElementById(arguments[0]);
slider.value = arguments[1];
slider.dispatchEvent(new Event("input"));
"""
NAMES = "return [...document.querySelectorAll('#pictures [data-picture]')].map((entry) => entry.title);"
AXE = "const done = arguments[0]; axe.run(document).then((found) => done(found.violations));"


class Browser(webdriver.Chrome):
    """Chromium, and the folder where its downloads go."""

    downloads: Path


@contextlib.contextmanager
def served(net: Network, adapt: Any = None, **of_page: Any) -> Iterator[tuple[str, Page]]:
    """The page with ``net`` at an address of its own, and its server: ``(address, page)``."""

    def curve(rgb: Any) -> dict[str, Any]:
        return {"intensity": [0, 128, 255], "level": [[2, 6, 4], [2, 5, 4], [3, 6, 4]], "correlation": 0.4}

    page = Page(Studio(net, "some", Limits(), adapt, curve), **of_page)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(page.application(), log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", page
    server.should_exit = True
    thread.join(60)
    listener.close()
    assert not page.sessions.root.exists()


@contextlib.contextmanager
def chromium(profile: Path, downloads: Path) -> Iterator[Browser]:
    """Chromium without a window; what is downloaded goes to ``driver.downloads``."""
    options = webdriver.ChromeOptions()
    assert CHROMIUM is not None
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    environment = {**os.environ, "HOME": str(profile)}
    driver = Browser(options=options, service=Service(DRIVER, env=environment))
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    driver.downloads = downloads
    yield driver
    driver.quit()


def visit(driver: Browser, address: str) -> None:
    """Open the page, until it is ready, in a new tab: in one where it was, it would come back with what it had."""
    before = driver.current_window_handle
    driver.switch_to.new_window("tab")
    after = driver.current_window_handle
    driver.switch_to.window(before)
    driver.close()
    driver.switch_to.window(after)
    driver.get(address)
    ready(driver)


def ready(driver: Browser) -> None:
    wait(driver, lambda: find(driver, "body").get_attribute("data-ready") == "yes")


def open_page(driver: Browser, address: str, *paths: Path) -> None:
    """Visit the page and hand pictures in, until the first is shown and all are listed."""
    visit(driver, address)
    hand_in(driver, *paths)


def hand_in(driver: Browser, *paths: Path) -> None:
    """Hand pictures in, until all are listed and one is shown."""
    there = len(names(driver))
    find(driver, "#file").send_keys("\n".join(map(str, paths)))
    wait(driver, lambda: len(names(driver)) == there + len(paths) and shown(driver))


def find(driver: Browser, selector: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, selector)


def names(driver: Browser) -> list[str]:
    """The pictures that are listed."""
    listed: list[str] = driver.execute_script(NAMES)
    return listed


def chosen(driver: Browser) -> str | None:
    """The picture that is shown."""
    return find(driver, "#pictures [aria-current]").get_attribute("title")


def choose(driver: Browser, name: str) -> None:
    """Look at a picture, until it is shown."""
    entry = find(driver, f"#pictures [title='{name}']")
    picture = entry.get_attribute("data-picture")
    entry.click()
    wait(driver, lambda: (shown(driver) or "").startswith(str(picture)))


def wait(driver: Browser, condition: Callable[[], Any]) -> Any:
    return WebDriverWait(driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition())


def shown(driver: Browser) -> str | None:
    """What is painted: "picture weights detail k strength"; empty while it is computed."""
    return find(driver, "body").get_attribute("data-shown")


def slide(driver: Browser, slider: str, value: object, expected: str = "") -> None:
    """Move a slider and wait until the page has painted what it says."""
    driver.execute_script(SLIDE, slider, value)
    wait(driver, lambda: (shown(driver) or "").endswith(expected))


def pixels(driver: Browser, canvas: str) -> np.ndarray:
    """(H, W, 3) of what a canvas shows."""
    height, width, values = driver.execute_script(PIXELS, canvas)
    return np.array(values, dtype=np.int32).reshape(height, width, 4)[..., :3]


def assert_shown(driver: Browser, expected: np.ndarray, exact: bool = False) -> None:
    """The page paints ``expected``, (H, W, 3). Few samples are rounded the other way: in bfloat16, a pass for all k is
    not to the bit that for one.
    """
    difference = np.abs(pixels(driver, "after") - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.1
    assert not exact or not difference.any()


def axe() -> str:
    """axe-core, which finds what keeps people out, as npm or a package from PyPI brings it."""
    files = [Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"]
    package = importlib.util.find_spec("selenium_axe_python")
    if package is not None and package.origin is not None:
        files.append(Path(package.origin).with_name("axe-core") / "axe.min.js")
    for file in files:
        if file.is_file():
            return file.read_text(encoding="utf-8")
    pytest.skip("needs axe-core: pip install selenium-axe-python, or npm install --no-save axe-core")


def violations(driver: Browser, source: str) -> dict[str, list[Any]]:
    """What axe-core finds on the page as it is: rules and the elements that break them."""
    found = driver.execute_async_script(f"{source}\n{AXE}")
    return {rule["id"]: [node["target"] for node in rule["nodes"]] for rule in found}
