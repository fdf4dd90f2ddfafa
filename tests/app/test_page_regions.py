"""Regions, downloads of several pictures, and what removing one means, as the server sees them."""

import io
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.page_support import Gate, Visitor, blind_network, write_photo

from atbsn.archs.base import Network
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.pipeline.run import denoise_file
from atbsn.engine.inference.pipeline.task import Task
from atbsn.pictures import read_mask, read_picture

pytest.importorskip("starlette")
pytest.importorskip("httpx2")
from starlette.testclient import TestClient

from atbsn.app.page.application import Page
from atbsn.app.page.studio import Limits, Studio


class PageVisitor(Visitor):
    """With the page itself."""

    page: Page


@pytest.fixture
def net() -> Network:
    return blind_network()


@pytest.fixture
def visitor(net: Network) -> Iterator[PageVisitor]:
    def learn(
        pictures: Sequence[Path],
        minutes: float,
        start: Network,
        on_progress: Callable[[float, str], None],
        should_stop: Callable[[], bool],
    ) -> tuple[None, str]:
        on_progress(0.1, "learning")
        while not should_stop():
            threading.Event().wait(0.005)
        return None, f"Learned from {sum(len(path.read_bytes()) > 0 for path in pictures)}."

    page = Page(Studio(net, "some", Limits(), learn, None))
    with TestClient(page.application(), base_url="http://127.0.0.1:7860") as client:
        visitor = PageVisitor(client)
        visitor.page = page
        yield visitor


def put_mask(visitor: PageVisitor, picture: dict[str, Any], data: bytes) -> Any:
    return visitor.client.put(f"{visitor.base}/pictures/{picture['id']}/mask", content=data)


def command_bytes(net: Network, path: Path, target: Path, mask: Path | None = None, **settings: Any) -> bytes:
    denoise_file(Task(path.name, target, path, mask=mask), photo_denoiser(net, **settings))
    return target.read_bytes()


@pytest.mark.parametrize("size", [(60, 90), (150, 1400)])
def test_a_masked_download_is_what_the_command_writes_with_the_mask_as_a_file(
    visitor: PageVisitor, net: Network, tmp_path: Path, size: tuple[int, int]
) -> None:
    path = write_photo(tmp_path / "a.png", *size)
    picture = visitor.opened(path)
    width, height = picture["view"]
    painted = np.random.default_rng(0).choice([0, 100, 255], (height, width)).astype(np.uint8)
    painted[:, width // 2 :] = 0
    facts = put_mask(visitor, picture, painted.tobytes()).json()
    assert np.array_equal(np.frombuffer(visitor.fetch(facts["mask"]), np.uint8), painted.ravel())
    answer = visitor.client.get(f"{visitor.base}/pictures/{picture['id']}/mask")
    assert "a_mask.png" in answer.headers["content-disposition"]
    (tmp_path / "mask.png").write_bytes(answer.content)
    mask = read_mask(tmp_path / "mask.png")
    assert mask.shape == size and (size != (60, 90) or np.array_equal(mask, painted))
    result = visitor.computed(f"pictures/{picture['id']}/result")
    data = visitor.fetch(result["file"])
    assert data == command_bytes(net, path, tmp_path / "expected.png", tmp_path / "mask.png")
    (tmp_path / "clean.png").write_bytes(data)
    moved = read_picture(tmp_path / "clean.png").rgb != read_picture(path).rgb
    assert moved.any() and not moved[:, size[1] // 2 + 2 :].any()

    assert not [path for path in visitor.page.sessions.root.rglob("*mask*.png")]
    assert put_mask(visitor, picture, b"").json()["mask"] is None
    assert visitor.client.get(f"{visitor.base}/pictures/{picture['id']}/mask").status_code == 404
    result = visitor.computed(f"pictures/{picture['id']}/result")
    assert visitor.fetch(result["file"]) == command_bytes(net, path, tmp_path / "whole.png")


def test_a_mask_of_another_size_is_refused_and_the_one_before_stays(visitor: PageVisitor, tmp_path: Path) -> None:
    picture = visitor.opened(write_photo(tmp_path / "a.png"))
    before = put_mask(visitor, picture, bytes(60 * 90)).json()["mask"]
    for data in (bytes(60 * 90 - 1), bytes(60 * 90 + 1)):
        assert put_mask(visitor, picture, data).status_code == 400
    assert visitor.client.get(visitor.base).json()["pictures"][0]["mask"] == before
    visitor.fetch(before)


def test_few_masks_are_kept(visitor: PageVisitor, tmp_path: Path) -> None:
    picture = visitor.opened(write_photo(tmp_path / "a.png"))
    for value in range(5):
        facts = put_mask(visitor, picture, bytes([value]) * (60 * 90)).json()
    assert len(list(visitor.page.sessions.root.rglob("*.mask"))) == 2
    assert set(visitor.fetch(facts["mask"])) == {4}


def test_all_pictures_come_in_one_file(visitor: PageVisitor, net: Network, tmp_path: Path) -> None:
    names: dict[str, dict[str, Any]] = {"a.png": {}, "b.tif": {"dtype": np.uint16}, "a.jpg": {}, "c.png": {"seed": 3}}
    pictures = {name: visitor.opened(write_photo(tmp_path / name, **how)) for name, how in names.items()}
    again = visitor.opened(tmp_path / "c.png", "a.png")
    formats = {pictures["a.jpg"]["id"]: ".png"}
    put_mask(visitor, again, bytes(60 * 90))
    result = visitor.computed("results", settings={"strength": 0.6}, formats=formats)
    archive = zipfile.ZipFile(io.BytesIO(visitor.fetch(result["file"])))
    wanted = ["a_clean.png", "b_clean.tif", "a_clean (2).png", "c_clean.png", "a_clean (3).png"]
    assert archive.namelist() == wanted
    assert (result["number"], result["name"]) == (5, "atbsn_clean.zip")
    assert [warning.split(": ")[0] for warning in result["warnings"]] == wanted[:4]  # untrained, it moves colours
    for name, made in (("a.png", wanted[0]), ("b.tif", wanted[1]), ("a.jpg", wanted[2]), ("c.png", wanted[3])):
        target = tmp_path / "expected" / made
        assert archive.read(made) == command_bytes(net, tmp_path / name, target, strength=0.6), made
    (tmp_path / "kept.png").write_bytes(archive.read(wanted[4]))
    assert np.array_equal(read_picture(tmp_path / "kept.png").rgb, read_picture(tmp_path / "c.png").rgb)
    visitor.computed("results")
    assert visitor.client.get(f"{visitor.base}/files/{result['file']}").status_code == 404
    kept = [path.name for path in visitor.page.sessions.root.rglob("*.zip")]
    assert len(kept) == 1


def test_a_picture_that_cannot_be_done_does_not_end_the_others(visitor: PageVisitor, tmp_path: Path) -> None:
    first = visitor.opened(write_photo(tmp_path / "a.png"))
    visitor.opened(write_photo(tmp_path / "b.png"))
    result = visitor.computed("results", formats={first["id"]: ".gif"})
    assert result["number"] == 1
    assert result["warnings"][0].startswith("a.png: cannot be written as .gif; choose ")
    state = visitor.finished(visitor.ask("results", settings={"strength": 7}))
    assert (state["state"], "strength" in state["message"]) == ("failed", True)
    assert len(list(visitor.page.sessions.root.rglob("*.zip"))) == 1


def test_nothing_to_download(visitor: PageVisitor) -> None:
    state = visitor.finished(visitor.ask("results"))
    assert (state["state"], "no picture" in state["message"]) == ("failed", True)
    for body in ({"formats": [1]}, {"formats": {"a": 1}}, {"settings": {"net": 1}}):
        assert visitor.client.post(f"{visitor.base}/results", json=body).status_code == 400


def test_removing_while_it_is_computed_says_so(visitor: PageVisitor, net: Network, tmp_path: Path) -> None:
    one, two = (visitor.opened(write_photo(tmp_path / name)) for name in ("a.png", "b.png"))
    gate = Gate(net)

    def removed(picture: dict[str, Any]) -> dict[str, Any]:
        answer = visitor.client.delete(f"{visitor.base}/pictures/{picture['id']}").json()
        assert not list(visitor.page.sessions.root.rglob(picture["id"]))
        return answer

    with gate.closed():
        job = visitor.ask(f"pictures/{one['id']}/result")
        gate.wait()
        waiting = visitor.ask(f"pictures/{one['id']}/view")
        other = visitor.ask(f"pictures/{two['id']}/result")
        threading.Timer(0.2, gate.open).start()
        assert removed(one) == {"message": "a.png is removed; its download was stopped.", "mattered": True}
    assert visitor.finished(job)["state"] == visitor.finished(waiting)["state"] == "stopped"
    assert visitor.finished(other)["state"] == "done"

    three = visitor.opened(tmp_path / "a.png")
    with gate.closed():
        job = visitor.ask("results")
        gate.wait()
        assert "the download of all goes on without it" in removed(three)["message"]
    result = visitor.finished(job)["result"]
    assert result["number"] == 1 and "a.png: was removed before it was done" in result["warnings"]

    job = visitor.ask("adapt", minutes=1)
    assert visitor.client.get(visitor.base).json()["jobs"] == {"adapt": job}
    answer = removed(two)
    assert answer["message"].startswith("b.png is removed; the adaptation that runs still learns from it")
    visitor.client.post(f"{visitor.base}/jobs/{job}/stop")
    assert visitor.finished(job)["result"]["message"] == "Learned from 1."
    assert not [path for path in visitor.page.sessions.root.rglob("*.png")]

    last = visitor.opened(tmp_path / "a.png")
    assert removed(last) == {"message": "a.png is removed.", "mattered": False}
    assert visitor.client.delete(f"{visitor.base}/pictures/{last['id']}").status_code == 404


def test_settings_are_those_of_all(visitor: PageVisitor, net: Network, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.png")
    visitor.opened(path)
    result = visitor.computed("results", settings={"k": 9, "luma": 0.5, "colour": 1.2})
    made = zipfile.ZipFile(io.BytesIO(visitor.fetch(result["file"]))).read("a_clean.png")
    assert made == command_bytes(net, path, tmp_path / "expected.png", k=9, luma=0.5, colour=1.2)
