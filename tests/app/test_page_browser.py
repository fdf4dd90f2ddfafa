"""The page in a real browser: hand a picture in, move the sliders, see it change, download it."""

import contextlib
import copy
import json
import os
import shutil
import socket
import threading
import time

import numpy as np
import pytest
import torch
from page_support import blind_network, write_photo

from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.pipeline.clean import clean_picture
from atbsn.pictures import read_picture, write_picture

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("selenium")
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from atbsn.app.page.application import Page
from atbsn.app.page.studio import Limits, Studio

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="needs chromium and chromium-driver")
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

CHOOSE = SLIDE.replace("input", "change")


def learn(pictures, minutes, start, on_progress, should_stop):
    """An adaptation that lasts until it is stopped, and gives another network."""
    on_progress(0.25, "round 1 of 4")
    while not should_stop():
        time.sleep(0.01)
    return learned(start), "It has seen the picture."


def learned(start):
    """Another network."""
    net = copy.deepcopy(start)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.9)
    return net


@pytest.fixture(scope="module")
def server():
    """The page at an address of its own, and its server."""
    with served(blind_network()) as found:
        yield found


@contextlib.contextmanager
def served(net):
    def curve(rgb):
        return {"intensity": [0, 128, 255], "level": [[2, 6, 4], [2, 5, 4], [3, 6, 4]], "correlation": 0.4}

    page = Page(Studio(net, "some", Limits(), learn, curve))
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


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    profile, downloads = tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("downloads")
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


@pytest.fixture
def opened(server, driver, tmp_path):
    """The page with a picture in it, and the picture's path."""
    path = write_photo(tmp_path / "night.png", height=90, width=140)
    open_page(driver, server[0], path)
    return path


def open_page(driver, address, path):
    """Visit the page and hand a picture in; until it is shown."""
    driver.get(address)
    wait(driver, lambda: driver.find_element(By.TAG_NAME, "body").get_attribute("data-ready") == "yes")
    driver.find_element(By.ID, "file").send_keys(str(path))
    wait(driver, lambda: shown(driver))


def wait(driver, condition):
    return WebDriverWait(driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition())


def shown(driver):
    """What is painted: "picture weights detail k strength"; empty while it is computed."""
    return driver.find_element(By.TAG_NAME, "body").get_attribute("data-shown")


def slide(driver, slider, value, expected):
    """Move a slider and wait until the page has painted what it says."""
    driver.execute_script(SLIDE, slider, value)
    wait(driver, lambda: (shown(driver) or "").endswith(expected))


def pixels(driver, canvas):
    """(H, W, 3) of what a canvas shows."""
    height, width, values = driver.execute_script(PIXELS, canvas)
    return np.array(values, dtype=np.int32).reshape(height, width, 4)[..., :3]


def test_upload_slide_look_download(server, driver, opened):
    noisy = read_picture(opened).rgb.astype(np.int32)
    net, ks = server[1].studio.net, server[1].studio.holes

    def expected(**settings):
        return clean_picture(photo_denoiser(net, **settings), read_picture(opened), opened.name).rgb.astype(np.int32)

    assert np.array_equal(pixels(driver, "before"), noisy)
    assert np.abs(expected() - noisy).max() > 5
    assert_shown(driver, expected())  # at first, what the command gives
    for k, strength in ((3, 1), (3, 0.4), (3, 0), (9, 0), (9, 1), ("mean", 1), (0, 1.5)):
        slide(driver, "strength", strength, "")
        slide(driver, "hole", ks.index(k), f" {k} {strength:g}")
        assert_shown(driver, expected(k=k, strength=strength), exact=strength == 0)
    slide(driver, "strength", 1, "")
    slide(driver, "hole", ks.index(3), " 3 1")
    slide(driver, "detail", 0.5, " 0.5 3 1")
    assert np.abs(expected(k=3, detail=0.5) - expected(k=3)).max() > 5
    assert_shown(driver, expected(k=3, detail=0.5))
    loupe = pixels(driver, "loupe-after")
    assert loupe.shape == (90, 140, 3)
    assert np.array_equal(loupe, pixels(driver, "after"))

    slide(driver, "strength", 0.75, " 0.5 3 0.75")
    driver.find_element(By.ID, "download").click()
    target = driver.downloads / "night_clean.png"
    wait(driver, target.is_file)
    file = opened.with_name("expected.png")
    denoiser = photo_denoiser(net, strength=0.75, detail=0.5, k=3)
    write_picture(file, clean_picture(denoiser, read_picture(opened), opened.name))
    wait(driver, lambda: target.stat().st_size == file.stat().st_size)
    assert target.read_bytes() == file.read_bytes()


def assert_shown(driver, expected, exact=False):
    """The page paints ``expected``, (H, W, 3). Few samples are rounded the other way: in bfloat16, a pass for all k is
    not to the bit that for one.
    """
    difference = np.abs(pixels(driver, "after") - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.1
    assert not exact or not difference.any()


def test_the_divider_is_dragged(driver, opened):
    after, divider = driver.find_element(By.ID, "after"), driver.find_element(By.ID, "divider")
    assert "50%" in after.value_of_css_property("clip-path")
    frame = driver.find_element(By.ID, "frame").size
    action = webdriver.ActionChains(driver).move_to_element(divider).click_and_hold()
    action.move_by_offset(frame["width"] // 4, 10).release().perform()
    assert 73 <= int(divider.get_attribute("aria-valuenow")) <= 77
    divider.send_keys(Keys.HOME)
    assert divider.get_attribute("aria-valuenow") == "0"
    divider.send_keys(Keys.ARROW_RIGHT)
    assert "2%" in after.value_of_css_property("clip-path")


def test_the_noise_curve_is_drawn(driver, opened):
    wait(driver, lambda: len(driver.find_elements(By.CSS_SELECTOR, "#curve polyline")) == 3)
    assert "5.7 at middle grey" in driver.find_element(By.ID, "noise-text").text


def test_adaptation_is_watched_and_stopped(server, driver, opened):
    driver.find_element(By.ID, "adapt-start").click()
    text = driver.find_element(By.ID, "adapt-text")
    wait(driver, lambda: "round 1 of 4 25 %" in text.text)
    before = pixels(driver, "after")
    driver.find_element(By.ID, "adapt-stop").click()
    wait(driver, lambda: text.text == "It has seen the picture.")
    assert driver.find_element(By.ID, "weights").get_attribute("value") == "adapted"
    wait(driver, lambda: " adapted " in (shown(driver) or ""))
    denoiser = photo_denoiser(learned(server[1].studio.net))
    assert_shown(driver, clean_picture(denoiser, read_picture(opened), opened.name).rgb.astype(np.int32))
    assert np.abs(pixels(driver, "after") - before).max() > 5

    driver.execute_script(CHOOSE, "weights", "start")
    wait(driver, lambda: " start " in (shown(driver) or ""))
    assert np.array_equal(pixels(driver, "after"), before)


def test_what_is_no_picture_is_said_and_the_others_are_taken(server, driver, tmp_path):
    bad, good = tmp_path / "letter.png", write_photo(tmp_path / "good.png")
    bad.write_text("Dear server,")
    driver.get(server[0])
    wait(driver, lambda: driver.find_element(By.TAG_NAME, "body").get_attribute("data-ready") == "yes")
    driver.find_element(By.ID, "file").send_keys(f"{bad}\n{good}")
    wait(driver, lambda: shown(driver))
    error = driver.find_element(By.ID, "error")
    assert error.is_displayed()
    assert "letter.png" in error.text
    assert "/tmp" not in error.text


def test_on_a_telephone_nothing_is_wider_than_the_screen(driver, opened):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
        assert driver.find_element(By.ID, "download").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_closing_the_page_deletes_what_it_had(server, driver, opened):
    root = server[1].sessions.root
    assert [path for path in root.rglob("*") if path.is_file()]
    driver.get("about:blank")
    wait(driver, lambda: not any(root.iterdir()))


def test_the_page_asks_nobody_but_its_server_and_breaks_no_rule_of_its_own(server, driver, opened):
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    strangers = [url for url in asked if url.startswith(("http", "ws", "ftp")) and not url.startswith(server[0])]
    assert any(url.endswith("/view") for url in asked)
    assert not strangers
    refused = [entry["message"] for entry in driver.get_log("browser") if "letter" not in entry["message"]]
    assert not [message for message in refused if "Security Policy" in message or "Error" in message]


@pytest.mark.parametrize(
    ("own", "said"),
    [({"k": "mean", "detail": "auto"}, "auto mean 1"), ({"k": 7, "detail": 0.25, "strength": 0.8}, "0.25 7 0.8")],
)
def test_the_page_begins_with_the_settings_of_the_weights(driver, tmp_path, own, said):
    net = blind_network()
    net.denoise_settings = own
    path = write_photo(tmp_path / "night.png", height=90, width=140)
    with served(net) as (address, _):
        open_page(driver, address, path)
        assert shown(driver).endswith(f" start {said}")
        label = "mean of all" if own["k"] == "mean" else "k = 7"
        assert driver.find_element(By.ID, "hole-value").text == label
        assert_shown(driver, clean_picture(photo_denoiser(net), read_picture(path), path.name).rgb.astype(np.int32))
        driver.get("about:blank")
