"""What the tests in a real browser share: the page at an address of its own, Chromium, what it shows."""

import contextlib
import importlib.util
import os
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("selenium")
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from atbsn.app.page.application import Page
from atbsn.app.page.studio import Limits, Studio

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


@contextlib.contextmanager
def served(net, adapt=None, **of_page):
    """The page with ``net`` at an address of its own, and its server: ``(address, page)``."""

    def curve(rgb):
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
def chromium(profile, downloads):
    """Chromium without a window; what is downloaded goes to ``driver.downloads``."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    environment = {**os.environ, "HOME": str(profile)}
    driver = webdriver.Chrome(options=options, service=Service(DRIVER, env=environment))
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    driver.downloads = downloads
    yield driver
    driver.quit()


def visit(driver, address):
    """Open the page, until it is ready, in a new tab: in one where it was, it would come back with what it had."""
    before = driver.current_window_handle
    driver.switch_to.new_window("tab")
    after = driver.current_window_handle
    driver.switch_to.window(before)
    driver.close()
    driver.switch_to.window(after)
    driver.get(address)
    ready(driver)


def ready(driver):
    wait(driver, lambda: find(driver, "body").get_attribute("data-ready") == "yes")


def open_page(driver, address, *paths):
    """Visit the page and hand pictures in, until the first is shown and all are listed."""
    visit(driver, address)
    hand_in(driver, *paths)


def hand_in(driver, *paths):
    """Hand pictures in, until all are listed and one is shown."""
    there = len(names(driver))
    find(driver, "#file").send_keys("\n".join(map(str, paths)))
    wait(driver, lambda: len(names(driver)) == there + len(paths) and shown(driver))


def find(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def names(driver):
    """The pictures that are listed."""
    return driver.execute_script(NAMES)


def chosen(driver):
    """The picture that is shown."""
    return find(driver, "#pictures [aria-current]").get_attribute("title")


def choose(driver, name):
    """Look at a picture, until it is shown."""
    entry = find(driver, f"#pictures [title='{name}']")
    picture = entry.get_attribute("data-picture")
    entry.click()
    wait(driver, lambda: (shown(driver) or "").startswith(picture))


def wait(driver, condition):
    return WebDriverWait(driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition())


def shown(driver):
    """What is painted: "picture weights detail k strength"; empty while it is computed."""
    return find(driver, "body").get_attribute("data-shown")


def slide(driver, slider, value, expected=""):
    """Move a slider and wait until the page has painted what it says."""
    driver.execute_script(SLIDE, slider, value)
    wait(driver, lambda: (shown(driver) or "").endswith(expected))


def pixels(driver, canvas):
    """(H, W, 3) of what a canvas shows."""
    height, width, values = driver.execute_script(PIXELS, canvas)
    return np.array(values, dtype=np.int32).reshape(height, width, 4)[..., :3]


def assert_shown(driver, expected, exact=False):
    """The page paints ``expected``, (H, W, 3). Few samples are rounded the other way: in bfloat16, a pass for all k is
    not to the bit that for one.
    """
    difference = np.abs(pixels(driver, "after") - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.1
    assert not exact or not difference.any()


def axe():
    """axe-core, which finds what keeps people out, as npm or a package from PyPI brings it."""
    files = [Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"]
    package = importlib.util.find_spec("selenium_axe_python")
    if package is not None and package.origin is not None:
        files.append(Path(package.origin).with_name("axe-core") / "axe.min.js")
    for file in files:
        if file.is_file():
            return file.read_text(encoding="utf-8")
    pytest.skip("needs axe-core: pip install selenium-axe-python, or npm install --no-save axe-core")


def violations(driver, source):
    """What axe-core finds on the page as it is: rules and the elements that break them."""
    found = driver.execute_async_script(f"{source}\n{AXE}")
    return {rule["id"]: [node["target"] for node in rule["nodes"]] for rule in found}
