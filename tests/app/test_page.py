"""What the page computes: the same as the functions below it, and for each visitor alone."""

import io
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.page_support import Visitor, blind_network, write_photo
from PIL import Image, ImageCms

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.weights import load
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.pipeline.run import denoise_file
from atbsn.engine.inference.pipeline.task import Task
from atbsn.pictures import Picture, read_picture, to_tensor, write_picture

pytest.importorskip("starlette")
pytest.importorskip("httpx2")
from starlette.testclient import TestClient

from atbsn.app.page.application import Page
from atbsn.app.page.studio import Limits, Studio


class Client(TestClient):
    """With the page that it asks."""

    page: Page


def straight_curve(rgb: np.ndarray) -> dict[str, Any]:
    return {"intensity": [0, 255], "level": [[1, float(rgb.mean())]] * 3, "correlation": 0.0}


@pytest.fixture
def serve() -> Iterator[Callable[..., Client]]:
    """``serve(net, ...)``: a client of a page of its own."""
    clients = []

    def start(
        net: Network,
        limits: Limits | None = None,
        adapt: Callable[..., Any] | None = None,
        noise: Callable[..., Any] = straight_curve,
        **of_page: Any,
    ) -> Client:
        page = Page(Studio(net, "some", limits or Limits(), adapt, noise), **of_page)
        clients.append(Client(page.application(), base_url="http://127.0.0.1:7860"))
        clients[-1].page = page
        return clients[-1].__enter__()

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def student(assets: Path) -> Network:
    return load(assets / "student_a.weights.safetensors")


def rgb_profile(gamma: float) -> bytes:
    """An ICC profile with sRGB's primaries and another tone curve."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    name = "sRGB".encode("utf-16-be")
    profile = profile.replace(name, "Line".encode("utf-16-be"))
    count = int.from_bytes(profile[128:132], "big")
    for entry in range(132, 132 + 12 * count, 12):
        if profile[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            start = int.from_bytes(profile[entry + 4 : entry + 8], "big")
            profile[start : start + 14] = (
                b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big")
            )
            profile[entry + 8 : entry + 12] = (14).to_bytes(4, "big")
    return bytes(profile)


def command_bytes(net: Network, path: Path, target: Path, **settings: Any) -> bytes:
    """The file that the functions of the command make of the picture at ``path``."""
    denoiser = photo_denoiser(net, **settings)
    denoise_file(Task(path.name, target, path), denoiser)
    return target.read_bytes()


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.jpg", {}),
        ("a.JPG", {"grey": True}),
        ("a.png", {"alpha": True}),
        ("a.tif", {"dtype": np.uint16}),
        ("a.png", {"dtype": np.uint16, "alpha": True}),
        ("a.webp", {}),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"strength": 0.6}, {"strength": 0.0}])
def test_a_download_is_what_the_command_writes(
    serve: Callable[..., Client],
    student: Network,
    tmp_path: Path,
    name: str,
    how: dict[str, Any],
    settings: dict[str, float],
) -> None:
    path = write_photo(tmp_path / name, **how)
    visitor = Visitor(serve(student))
    picture = visitor.opened(path)
    result = visitor.computed(f"pictures/{picture['id']}/result", settings=settings)
    assert result["name"] == f"a_clean{path.suffix}" and picture["formats"][0] == path.suffix
    data = visitor.fetch(result["file"])
    assert data == command_bytes(student, path, tmp_path / f"expected{path.suffix}", **settings)
    assert len(data) == result["bytes"]
    answer = visitor.client.get(f"{visitor.base}/files/{result['file']}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert f"a_clean{path.suffix}" in answer.headers["content-disposition"]


def test_formats_that_hold_the_picture_are_offered(
    serve: Callable[..., Client], student: Network, tmp_path: Path
) -> None:
    path = write_photo(tmp_path / "a.png", alpha=True)
    visitor = Visitor(serve(student))
    picture = visitor.opened(path, "a.jpg")
    assert ".jpg" not in picture["formats"] and ".bmp" not in picture["formats"] and ".png" in picture["formats"]
    assert "holds no transparency" in picture["unfit"]
    address = f"pictures/{picture['id']}/result"
    for suffix in (".png", ".tif"):
        result = visitor.computed(address, settings={}, format=suffix)
        assert result["name"] == f"a_clean{suffix}"
        (tmp_path / result["name"]).write_bytes(visitor.fetch(result["file"]))
        assert read_picture(tmp_path / result["name"]).alpha is not None
    state = visitor.finished(visitor.ask(address, settings={}, format=".jpg"))
    assert state["state"] == "failed" and "a.jpg: cannot be written as .jpg; choose " in state["message"]
    assert visitor.opened(write_photo(tmp_path / "b.JPG"))["formats"][0] == ".JPG"


@pytest.mark.parametrize("grey", [False, True])
def test_a_download_says_what_it_did_to_the_picture(serve: Callable[..., Client], tmp_path: Path, grey: bool) -> None:
    torch.manual_seed(0)
    visitor = Visitor(serve(build_arch({"type": "PhotoNet", "widths": [8, 8, 8]}).eval()))  # untrained, it does nothing
    picture = visitor.opened(write_photo(tmp_path / "a.png", 200, 200, grey=grey))
    result = visitor.computed(f"pictures/{picture['id']}/result")
    assert re.fullmatch(r"noise 1\d\.\d -> 1\d\.\d", result["noise"])
    assert len(result["warnings"]) == grey and all("a grey picture" in text for text in result["warnings"])


def test_a_download_with_a_blind_spot_is_what_the_command_writes(serve: Callable[..., Client], tmp_path: Path) -> None:
    path, net = write_photo(tmp_path / "a.png"), blind_network()
    visitor = Visitor(serve(net))
    picture = visitor.opened(path)
    files = []
    for k in (0, 9):
        result = visitor.computed(f"pictures/{picture['id']}/result", settings={"k": k, "strength": 1.2})
        files.append(visitor.fetch(result["file"]))
        assert files[-1] == command_bytes(net, path, tmp_path / "expected.png", k=k, strength=1.2)
    assert files[0] != files[1]


def test_the_view_is_the_networks_output(serve: Callable[..., Client], student: Network, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.tif", dtype=np.uint16)
    visitor = Visitor(serve(student))
    picture = visitor.opened(path)
    assert (picture["height"], picture["width"], picture["bits"], picture["view"]) == (60, 90, 16, [90, 60])
    noisy = to_tensor(read_picture(path).rgb)
    shown = visitor.view(picture["before"], 60, 90)
    assert np.abs(shown - noisy.permute(1, 2, 0).numpy()).max() <= 1 / 128 + 1e-6
    result = visitor.computed(f"pictures/{picture['id']}/view")
    assert (result["width"], result["height"], list(result["views"])) == (90, 60, [""])
    clean = photo_denoiser(student)(noisy[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(visitor.view(result["views"][""], 60, 90) - clean).max() <= 1 / 128 + 1e-6
    assert np.abs(clean - shown).max() > 2


def test_one_view_has_all_blind_spots(serve: Callable[..., Client], tmp_path: Path) -> None:
    path, net = write_photo(tmp_path / "a.png"), blind_network()
    visitor = Visitor(serve(net))
    assert {"JPEG", "PNG", "TIFF"} <= set(visitor.about["formats"])
    assert visitor.about["holes"] == [0, 1, 3, 5, 7, 9, 11, "mean"]
    assert visitor.about["settings"] == {"strength": 1.0, "luma": None, "colour": None, "detail": 0.0, "k": 3}
    picture = visitor.opened(path)
    views = visitor.computed(f"pictures/{picture['id']}/view")["views"]
    noisy = to_tensor(read_picture(path).rgb)[None]
    family = photo_denoiser(net).family(visitor.about["holes"])(noisy)
    for k, clean in zip(visitor.about["holes"], family, strict=True):
        shown = visitor.view(views[str(k)], 60, 90)
        assert np.abs(shown - clean[0].permute(1, 2, 0).numpy()).max() <= 1 / 128 + 1e-6


@pytest.mark.parametrize(
    ("own", "k"), [({"k": "mean"}, "mean"), ({"k": 13, "detail": "auto"}, 13), ({"strength": 0.8}, 3)]
)
def test_the_page_begins_with_what_the_weights_are_meant_for(
    serve: Callable[..., Client], own: dict[str, Any], k: int | str
) -> None:
    net = blind_network()
    net.denoise_settings = own
    about = Visitor(serve(net)).about
    assert about["settings"] == {"strength": 1.0, "luma": None, "colour": None, "detail": 0.0, "k": 3} | own
    assert k in about["holes"]


def test_a_network_without_a_blind_spot_has_no_slider_for_it(serve: Callable[..., Client], student: Network) -> None:
    about = Visitor(serve(student)).about
    assert about["holes"] == []
    assert about["settings"] == {"strength": 1.0, "luma": None, "colour": None, "detail": 0.0}


def test_a_large_picture_is_shown_small_and_its_loupe_at_full_size(
    serve: Callable[..., Client], student: Network, tmp_path: Path
) -> None:
    path = write_photo(tmp_path / "a.png", height=300, width=2400)
    visitor = Visitor(serve(student))
    picture = visitor.opened(path)
    assert picture["view"] == [2048, 256]
    result = visitor.computed(f"pictures/{picture['id']}/view")
    assert (result["width"], result["height"]) == (2048, 256)
    rgb = read_picture(path).rgb
    address = f"{visitor.base}/pictures/{picture['id']}/region"
    area = {"left": 1000, "top": 110, "width": 200, "height": 100}
    before = np.frombuffer(visitor.client.get(address, params=area).content, "<i2").reshape(100, 200, 3) / 64
    assert np.array_equal(before, rgb[110:210, 1000:1200])
    part = visitor.computed(f"pictures/{picture['id']}/view", region=list(area.values()))
    whole = photo_denoiser(student)(to_tensor(rgb)[None])[0].permute(1, 2, 0).numpy()
    after = visitor.view(part["views"][""], 100, 200)
    off = np.abs(after - whole[110:210, 1000:1200])  # in bfloat16, where the tiles' borders lie changes the rounding
    assert off.mean() < 0.3
    assert off.max() < 3
    assert np.abs(after - whole[110:210, 1001:1201]).mean() > 1


def test_regions_are_moved_into_the_picture(serve: Callable[..., Client], student: Network, tmp_path: Path) -> None:
    visitor = Visitor(serve(student))
    picture = visitor.opened(write_photo(tmp_path / "a.png"))
    result = visitor.computed(f"pictures/{picture['id']}/view", region=[-50, 10**9, 10**9, 20])
    assert (result["width"], result["height"]) == (90, 20)
    for region in ([1, 2, 3], [0, 0, 1.5, 2], ["a", 0, 1, 1], [True, 0, 1, 1], "abcd", {"left": 1}, 5):
        answer = visitor.client.post(f"{visitor.base}/pictures/{picture['id']}/view", json={"region": region})
        assert answer.status_code == 400, region


def test_colours_of_another_profile_are_shown_as_srgb(
    serve: Callable[..., Client], student: Network, tmp_path: Path
) -> None:
    profile = rgb_profile(gamma=1.0)
    wide = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    samples = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    write_picture(tmp_path / "a.png", Picture(samples, icc=profile))
    visitor = Visitor(serve(student))
    picture = visitor.opened(tmp_path / "a.png")
    shown = visitor.view(picture["before"], 20, 20)
    converted = ImageCms.profileToProfile(Image.fromarray(samples), wide, ImageCms.createProfile("sRGB"))
    assert np.array_equal(shown, np.asarray(converted))
    assert np.abs(shown - samples).max() > 10
    data = visitor.fetch(visitor.computed(f"pictures/{picture['id']}/result", settings={"strength": 0})["file"])
    (tmp_path / "b.png").write_bytes(data)
    assert np.array_equal(read_picture(tmp_path / "b.png").rgb, samples)
    assert read_picture(tmp_path / "b.png").icc == profile


def test_a_profile_that_cannot_be_used_is_passed_over(
    serve: Callable[..., Client], student: Network, tmp_path: Path
) -> None:
    visitor = Visitor(serve(student))
    for number, icc in enumerate((b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())):
        path = tmp_path / f"{number}.png"
        write_picture(path, Picture(np.full((20, 20, 3), 100, np.uint8), icc=icc))
        assert np.all(visitor.view(visitor.opened(path)["before"], 20, 20) == 100)


def test_only_what_is_shown_is_kept(serve: Callable[..., Client], student: Network, tmp_path: Path) -> None:
    client = serve(student)
    visitor = Visitor(client)
    picture = visitor.opened(write_photo(tmp_path / "a.png"))
    address = f"pictures/{picture['id']}"
    first = visitor.computed(f"{address}/view")["views"][""]
    second = visitor.computed(f"{address}/view")["views"][""]
    assert client.get(f"{visitor.base}/files/{first}").status_code == 404
    visitor.fetch(second)
    for strength in range(7):
        visitor.computed(f"{address}/result", settings={"strength": strength / 10})
    files = [path.suffix for path in client.page.sessions.root.rglob("*") if path.is_file()]
    assert sorted(files) == [".npy", *[".png"] * 5, ".view", ".view"]
    client.delete(f"{visitor.base}/{address}")
    assert not [path for path in client.page.sessions.root.rglob("*") if path.is_file()]
    assert client.post(f"{visitor.base}/{address}/view", json={}).status_code == 404


def test_a_networks_output_that_is_not_finite_is_said(
    serve: Callable[..., Client], student: Network, tmp_path: Path
) -> None:
    broken = load(Path(__file__).parents[1] / "assets" / "student_a.weights.safetensors")
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    visitor = Visitor(serve(broken))
    picture = visitor.opened(write_photo(tmp_path / "a.png"))
    for kind in ("view", "result"):
        state = visitor.finished(visitor.ask(f"pictures/{picture['id']}/{kind}"))
        assert (state["state"], "not finite" in state["message"]) == ("failed", True)


@pytest.mark.parametrize(
    "settings",
    [{"strength": 3}, {"strength": "1"}, {"strength": float("nan")}, {"k": 3}, {"detail": []}, {"weights": "adapted"}],
    ids=str,
)
def test_settings_that_the_network_does_not_take_are_refused(
    serve: Callable[..., Client], student: Network, tmp_path: Path, settings: dict[str, Any]
) -> None:
    import json

    visitor = Visitor(serve(student))
    picture = visitor.opened(write_photo(tmp_path / "a.png"))
    body = json.dumps({"settings": settings})
    answer = visitor.client.post(f"{visitor.base}/pictures/{picture['id']}/result", content=body)
    state = visitor.finished(answer.json()["id"])
    assert state["state"] == "failed"
    assert "should not" not in state["message"], state["message"]


@pytest.mark.parametrize("body", ['{"settings": {"net": 1}}', '{"settings": 3}', "[]", "{", "[" * 9000, "x" * 20_000])
def test_requests_of_another_form_are_refused(
    serve: Callable[..., Client], student: Network, tmp_path: Path, body: str
) -> None:
    visitor = Visitor(serve(student))
    picture = visitor.opened(write_photo(tmp_path / "a.png"))
    answer = visitor.client.post(f"{visitor.base}/pictures/{picture['id']}/result", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_noise_curve(serve: Callable[..., Client], student: Network, tmp_path: Path) -> None:
    path = write_photo(tmp_path / "a.png")
    visitor = Visitor(serve(student))
    picture = visitor.opened(path)
    curve = visitor.computed(f"pictures/{picture['id']}/noise")
    assert curve["level"][0][1] == pytest.approx(read_picture(path).rgb.mean())
    without = Visitor(serve(student, noise=None))
    assert not without.about["noise"]
    picture = without.opened(path)
    assert without.client.post(f"{without.base}/pictures/{picture['id']}/noise", json={}).status_code == 404


def test_the_noise_curve_finds_the_noise() -> None:
    pytest.importorskip("atbsn.noise")
    from atbsn.app.page.noise import estimated_noise

    random = np.random.default_rng(0)
    curve = estimated_noise(
        np.clip(np.linspace(40, 215, 256)[:, None, None] + random.normal(0, 6, (256, 256, 3)), 0, 255).astype(
            np.float32
        )
    )
    inside = [level for level, at in zip(curve["level"][1], curve["intensity"], strict=True) if 50 < at < 200]
    assert np.mean(inside) == pytest.approx(6, rel=0.15)
    assert abs(curve["correlation"]) < 0.15


def test_adaptation_reports_can_be_stopped_and_is_used(
    serve: Callable[..., Client], student: Network, tmp_path: Path
) -> None:
    begun, seen = threading.Event(), []
    other = load(Path(__file__).parents[1] / "assets" / "student_a.weights.safetensors")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)

    def adapt(
        pictures: Sequence[Path],
        minutes: float,
        start: Network,
        on_progress: Callable[[float, str], None],
        should_stop: Callable[[], bool],
    ) -> tuple[Network, str]:
        seen.extend([[path.read_bytes() for path in pictures], minutes, start])
        on_progress(0.4, "round 2 of 5")
        begun.set()
        while not should_stop():
            threading.Event().wait(0.005)
        on_progress(0.5, "stopping")
        return other, "It helped."

    visitor = Visitor(serve(student, adapt=adapt))
    path = write_photo(tmp_path / "a.png")
    refused = visitor.client.post(f"{visitor.base}/adapt", json={"minutes": 500})
    assert refused.status_code == 400
    empty = visitor.finished(visitor.ask("adapt", minutes=1))
    assert (empty["state"], "no picture" in empty["message"]) == ("failed", True)
    picture = visitor.opened(path)
    job = visitor.ask("adapt", minutes=2)
    assert begun.wait(30)
    state = visitor.client.get(f"{visitor.base}/jobs/{job}").json()
    assert (state["state"], state["share"], state["message"]) == ("running", 0.4, "round 2 of 5")
    visitor.client.post(f"{visitor.base}/jobs/{job}/stop")
    assert visitor.finished(job)["result"] == {"message": "It helped.", "helped": True}
    assert seen == [[path.read_bytes()], 2.0, student]
    assert list(visitor.client.get(visitor.base).json()["weights"]) == ["start", "adapted"]
    result = visitor.computed(f"pictures/{picture['id']}/result", settings={"weights": "adapted"})
    data = visitor.fetch(result["file"])
    assert data == command_bytes(other, path, tmp_path / "expected.png")
    assert data != command_bytes(student, path, tmp_path / "expected.png")


def test_an_adaptation_that_does_not_help_offers_nothing(
    serve: Callable[..., Client], student: Network, tmp_path: Path
) -> None:
    visitor = Visitor(serve(student, adapt=lambda *_: (None, "It did not help.")))
    visitor.opened(write_photo(tmp_path / "a.png"))
    assert visitor.computed("adapt", minutes=1) == {"message": "It did not help.", "helped": False}
    assert list(visitor.client.get(visitor.base).json()["weights"]) == ["start"]


def test_two_visitors_do_not_see_each_other(serve: Callable[..., Client], student: Network, tmp_path: Path) -> None:
    client = serve(student, adapt=lambda *_: (student, "done"))
    one, two = Visitor(client), Visitor(client)
    picture = one.opened(write_photo(tmp_path / "a.png"))
    other = two.opened(write_photo(tmp_path / "b.png", seed=1))
    jobs = [v.ask(f"pictures/{p['id']}/result") for v, p in ((one, picture), (two, other), (one, picture))]
    mine = one.finished(jobs[0])["result"]["file"]
    assert two.finished(jobs[1])["state"] == one.finished(jobs[2])["state"] == "done"
    assert one.fetch(mine) == command_bytes(student, tmp_path / "a.png", tmp_path / "expected.png")
    for address in (
        f"jobs/{jobs[0]}",
        f"files/{mine}",
        f"files/{picture['before']}",
        f"pictures/{picture['id']}/region",
    ):
        assert client.get(f"{two.base}/{address}").status_code == 404, address
    for address in (f"jobs/{jobs[0]}/stop", f"pictures/{picture['id']}/view"):
        assert client.post(f"{two.base}/{address}", json={}).status_code == 404
    assert client.delete(f"{two.base}/pictures/{picture['id']}").status_code == 404
    two.computed("adapt", minutes=1)
    assert list(client.get(one.base).json()["weights"]) == ["start"]


def test_the_static_page_needs_nothing_from_outside(serve: Callable[..., Client], student: Network) -> None:
    client = serve(student)
    page = client.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    static = Path(__file__).parents[2] / "atbsn" / "app" / "page" / "static"
    for path in static.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", "").replace("//\n", ""), path
        assert client.get(f"/static/{path.name}").content == path.read_bytes()
    assert page.text.count("<script") == 1
