"""The page in a real browser: hand a picture in, move the sliders, see it change, download it."""

import copy
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.page_browser import (
    SLIDE,
    assert_shown,
    choose,
    chosen,
    find,
    hand_in,
    names,
    needs_browser,
    open_page,
    pixels,
    ready,
    served,
    shown,
    slide,
    visit,
    wait,
)
from helpers.page_support import Gate, blind_network, write_photo
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from atbsn.archs.base import Network
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.pipeline.clean import clean_picture
from atbsn.pictures import read_picture, write_picture

pytestmark = needs_browser
CHOOSE = SLIDE.replace("input", "change")


def learn(
    pictures: Sequence[Path],
    minutes: float,
    start: Network,
    on_progress: Callable[[float, str], None],
    should_stop: Callable[[], bool],
) -> tuple[Network, str]:
    """An adaptation that lasts until it is stopped, and gives another network."""
    on_progress(0.25, "round 1 of 4")
    while not should_stop():
        time.sleep(0.01)
    return learned(start), "It has seen the picture."


def learned(start: Network) -> Network:
    """Another network."""
    net = copy.deepcopy(start)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.9)
    return net


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """The page at an address of its own, and its server."""
    with served(blind_network(), learn) as found:
        yield found


@pytest.fixture
def opened(server: Any, driver: Any, tmp_path: Path) -> Path:
    """The page with a picture in it, and the picture's path."""
    path = write_photo(tmp_path / "night.png", height=90, width=140)
    open_page(driver, server[0], path)
    return path


def test_upload_slide_look_download(server: Any, driver: Any, opened: Path) -> None:
    noisy = read_picture(opened).rgb.astype(np.int32)
    net, ks = server[1].studio.net, server[1].studio.holes

    def expected(**settings: Any) -> np.ndarray:
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


def test_the_divider_is_dragged(driver: Any, opened: Path) -> None:
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


def test_the_noise_curve_is_drawn(driver: Any, opened: Path) -> None:
    wait(driver, lambda: len(driver.find_elements(By.CSS_SELECTOR, "#curve polyline")) == 3)
    assert "5.7 at middle grey" in driver.find_element(By.ID, "noise-text").text


def test_adaptation_is_watched_and_stopped(server: Any, driver: Any, opened: Path) -> None:
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


def test_what_is_no_picture_is_said_and_the_others_are_taken(server: Any, driver: Any, tmp_path: Path) -> None:
    bad, good = tmp_path / "letter.png", write_photo(tmp_path / "good.png")
    bad.write_text("Dear server,")
    visit(driver, server[0])
    driver.find_element(By.ID, "file").send_keys(f"{bad}\n{good}")
    wait(driver, lambda: shown(driver))
    error = driver.find_element(By.ID, "error")
    assert error.is_displayed()
    assert "letter.png" in error.text
    assert "/tmp" not in error.text


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_telephone_nothing_is_wider_than_the_screen(driver: Any, opened: Path, width: int) -> None:
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert driver.find_element(By.ID, "download").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_closing_the_page_deletes_what_it_had(driver: Any, tmp_path: Path) -> None:
    with served(blind_network(), grace=0.5) as (address, page):
        open_page(driver, address, write_photo(tmp_path / "night.png", height=90, width=140))
        assert [path for path in page.sessions.root.rglob("*") if path.is_file()]
        driver.get("about:blank")
        wait(driver, lambda: not any(page.sessions.root.iterdir()))


def test_the_page_asks_nobody_but_its_server_and_breaks_no_rule_of_its_own(
    server: Any, driver: Any, opened: Path
) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    ours = "http://127.0.0.1:"  # of this test and those before it
    strangers = [url for url in asked if url.startswith(("http", "ws", "ftp")) and not url.startswith(ours)]
    assert any(url.endswith("/view") for url in asked)
    assert not strangers
    refused = [entry["message"] for entry in driver.get_log("browser") if "letter" not in entry["message"]]
    assert not [message for message in refused if "Security Policy" in message or "Error" in message]


@pytest.mark.parametrize(
    ("own", "said"),
    [({"k": "mean", "detail": "auto"}, "auto mean 1"), ({"k": 7, "detail": 0.25, "strength": 0.8}, "0.25 7 0.8")],
)
def test_the_page_begins_with_the_settings_of_the_weights(
    driver: Any, tmp_path: Path, own: dict[str, Any], said: str
) -> None:
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


def test_several_pictures_come_in_one_file_with_one_set_of_settings(server: Any, driver: Any, tmp_path: Path) -> None:
    paths = [
        write_photo(tmp_path / name, height=60, width=90, seed=seed) for seed, name in enumerate(("a.png", "b.png"))
    ]
    open_page(driver, server[0], *paths)
    assert (names(driver), chosen(driver)) == (["a.png", "b.png"], "a.png")
    slide(driver, "luma", 0.25, " 1 0.25 1")
    choose(driver, "b.png")
    assert shown(driver).endswith(" 1 0.25 1")  # the settings are those of all
    driver.execute_script(CHOOSE, "format", ".tif")
    button = find(driver, "#download-all")
    assert button.text == "Download all 2"
    button.click()
    target = driver.downloads / "atbsn_clean.zip"
    wait(driver, target.is_file)
    denoiser = photo_denoiser(server[1].studio.net, luma=0.25, colour=1.0)
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["a_clean.png", "b_clean.tif"]
        for path, name in zip(paths, archive.namelist(), strict=True):
            write_picture(tmp_path / "out" / name, clean_picture(denoiser, read_picture(path), name))
            assert archive.read(name) == (tmp_path / "out" / name).read_bytes()
    wait(driver, lambda: "2 pictures" in find(driver, "#status-text").text)


def test_removing_while_it_is_computed_says_what_happened(driver: Any, tmp_path: Path) -> None:
    net = blind_network()
    gate = Gate(net)
    with served(net, learn) as (address, _):
        paths = [write_photo(tmp_path / name) for name in ("a.png", "b.png")]
        open_page(driver, address, *paths)
        with gate.closed(seconds=0.5):
            find(driver, "#download").click()
            gate.wait()
            find(driver, "[aria-label='Remove a.png']").click()
        wait(driver, lambda: find(driver, "#note").is_displayed())
        assert find(driver, "#note p").text == "a.png is removed; its download was stopped."
        wait(driver, lambda: shown(driver))
        assert (names(driver), chosen(driver)) == (["b.png"], "b.png")
        assert not find(driver, "#error").is_displayed()
        wait(driver, lambda: find(driver, "#download").is_enabled())
        find(driver, "#note button").click()
        assert not find(driver, "#note").is_displayed()

        with gate.closed(seconds=0.5):
            find(driver, "#download").click()
            gate.wait()
            find(driver, "#download-stop").click()
        wait(driver, lambda: find(driver, "#status-text").text == "The download was stopped.")
        driver.get("about:blank")


def test_a_reload_keeps_the_pictures_and_the_settings(server: Any, driver: Any, tmp_path: Path) -> None:
    paths = [write_photo(tmp_path / name, seed=seed) for seed, name in enumerate(("a.png", "b.png", "c.png"))]
    open_page(driver, server[0], *paths)
    choose(driver, "b.png")
    slide(driver, "strength", 0.6, " 0.6")
    slide(driver, "hole", 5, " 9 0.6")
    driver.execute_script(CHOOSE, "format", ".tif")
    before = pixels(driver, "after")
    for _ in range(2):
        driver.refresh()
        ready(driver)
        wait(driver, lambda: shown(driver))
    assert (names(driver), chosen(driver)) == (["a.png", "b.png", "c.png"], "b.png")
    assert shown(driver).endswith(" 9 0.6")
    assert np.array_equal(pixels(driver, "after"), before)
    assert find(driver, "#format").get_attribute("value") == ".tif"

    find(driver, "#adapt-start").click()  # goes on, too
    wait(driver, lambda: "round 1 of 4" in find(driver, "#adapt-text").text)
    driver.refresh()
    ready(driver)
    wait(driver, lambda: "round 1 of 4" in find(driver, "#adapt-text").text)
    find(driver, "#adapt-stop").click()
    wait(driver, lambda: find(driver, "#adapt-text").text == "It has seen the picture.")
    hand_in(driver, write_photo(tmp_path / "d.png"))
    assert len(names(driver)) == 4


def test_a_reload_after_the_servers_end_says_so(driver: Any, tmp_path: Path) -> None:
    with served(blind_network()) as (address, page):
        open_page(driver, address, write_photo(tmp_path / "a.png"))
        page.sessions.end(next(iter(page.sessions._sessions)))
        driver.refresh()
        ready(driver)
        assert "deleted" in find(driver, "#note").text
        assert not names(driver)
        driver.get("about:blank")
