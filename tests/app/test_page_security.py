"""What people should not be able to do with the page, tried."""

import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.page_support import Visitor, write_photo

from atbsn.archs.weights import load

pytest.importorskip("starlette")
pytest.importorskip("httpx2")
from starlette.testclient import TestClient

from atbsn.app.page.application import Page
from atbsn.app.page.guard import is_loopback
from atbsn.app.page.sessions import plain_name
from atbsn.app.page.studio import Limits, Studio

HOME = "http://127.0.0.1:7860"


@pytest.fixture
def page(assets: Path) -> Iterator[Page]:
    net = load(assets / "student_a.weights.safetensors")
    page = Page(Studio(net, "some", Limits(megabytes=1, megapixels=1, pictures=3), None, None), sessions=3, idle=600)
    yield page
    page.close()


@pytest.fixture
def client(page: Page) -> Iterator[TestClient]:
    with TestClient(page.application(), base_url=HOME) as client:
        yield client


def files(page: Page) -> list[Any]:
    return [path for path in page.sessions.root.rglob("*") if path.is_file()]


NAMES = [
    "../../../../tmp/evil.png",
    "..\\..\\evil.png",
    "/etc/passwd.png",
    "C:\\Windows\\evil.png",
    "a/../../evil.png",
    "evil\x00.png",
    "%2e%2e%2fevil.png",
    "a\r\nSet-Cookie: x=1.png",
    "\u202egnp.exe.png",
    "photo \u4e2d\u6587 'é'; $(rm -rf ~) & \"x\".png",
    "x" * 5000 + ".png",
    "-rf.png",
    "con.png",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_name_leaves_the_folder(page: Page, client: TestClient, tmp_path: Path, name: str) -> None:
    before = set(tmp_path.parent.rglob("*evil*"))
    visitor = Visitor(client)
    picture = visitor.opened(write_photo(tmp_path / "a.png"), name)
    assert all(page.sessions.root in path.parents for path in files(page))
    assert {path.name for path in files(page)} == {"picture.png", "samples.npy", "before.view"}
    assert not set(picture["name"]) & set('/\\\r\n\x00\u202e"')
    result = visitor.computed(f"pictures/{picture['id']}/result")
    answer = client.get(f"{visitor.base}/files/{result['file']}")
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert all(page.sessions.root in path.parents for path in files(page))
    assert set(tmp_path.parent.rglob("*evil*")) == before


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a/b\\c.jpg", "c.jpg"), ("..", "picture"), ("", "picture"), (" . ", "picture"), ("Foto (1).JPG", "Foto (1).JPG")],
)
def test_plain_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize(
    "name", ["a", "a.", ".png", "a.p/g", "a.tar_gz", "a.html", "a.svg", "a.gif", "a.npy", "a.py", "a.pth"]
)
def test_other_kinds_of_files_are_refused(page: Page, client: TestClient, tmp_path: Path, name: str) -> None:
    visitor = Visitor(client)
    path = tmp_path / "x"
    path.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    answer = visitor.upload(path, name)
    assert answer.status_code == 400
    assert str(page.sessions.root) not in answer.text
    assert not files(page)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp"])
@pytest.mark.parametrize("content", [b"<html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", bytes(1000)])
def test_what_is_no_picture_is_refused_in_words_that_name_it(
    page: Page, client: TestClient, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    answer = Visitor(client).upload(tmp_path / name)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{name}: ")
    assert str(page.sessions.root) not in answer.text
    assert not files(page)


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that says it is so large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(1001, 1000), (30_000, 30_000), (2**31 - 1, 2**31 - 1), (1, 2**30)])
def test_a_small_file_of_a_large_picture_is_refused_before_it_is_unpacked(
    page: Page, client: TestClient, tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "bomb.png").write_bytes(png(*size, rows=bytes(500_000)))
    answer = Visitor(client).upload(tmp_path / "bomb.png")
    assert answer.status_code == 400
    assert "limit" in answer.json()["error"]
    assert not files(page)


def test_a_picture_at_the_limit_is_taken(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(1000, 1000, rows=bytes(1000 * 3001)))
    assert Visitor(client).upload(tmp_path / "large.png").status_code == 201


def test_text_that_unpacks_to_more_than_there_is_is_refused(page: Page, client: TestClient, tmp_path: Path) -> None:
    data = png(10, 10, rows=bytes(310))
    body = b"text\0\0" + zlib.compress(bytes(10**8), 9)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    started = page.sessions.root
    answer = Visitor(client).upload(tmp_path / "a.png")
    assert answer.status_code in (201, 400)
    assert sum(path.stat().st_size for path in started.rglob("*") if path.is_file()) < 2**20


def test_files_over_the_limit_are_refused_whatever_they_say_of_their_length(page: Page, client: TestClient) -> None:
    visitor = Visitor(client)
    address = f"{visitor.base}/pictures?name=a.png"
    answer = client.post(address, content=bytes(1_000_001))
    assert (answer.status_code, "limit of 1 MB" in answer.json()["error"]) == (400, True)
    answer = client.post(address, content=(bytes(100_000) for _ in range(11)))  # chunked: no length is said
    assert (answer.status_code, "limit of 1 MB" in answer.json()["error"]) == (400, True)
    answer = client.post(address, content=b"", headers={"content-length": "-5"})
    assert answer.status_code == 400
    answer = client.post(address, content=b"")
    assert (answer.status_code, "empty" in answer.json()["error"]) == (400, True)
    assert not files(page)


def test_there_is_an_end_of_pictures_and_of_pages(client: TestClient, tmp_path: Path) -> None:
    visitor, path = Visitor(client), write_photo(tmp_path / "a.png")
    for _ in range(3):
        visitor.opened(path)
    assert visitor.upload(path).status_code == 400
    Visitor(client)
    third = Visitor(client)
    answer = client.post("/api/sessions")
    assert (answer.status_code, "open already" in answer.json()["error"]) == (429, True)
    client.post(f"{third.base}/leave")
    Visitor(client)  # who left makes room
    assert client.get(third.base).status_code == 404


@pytest.mark.parametrize(
    "address",
    [
        "/static/../application.py",
        "/static/..%2fapplication.py",
        "/static/%2e%2e/application.py",
        "/static//etc/passwd",
        "/static/..%5capplication.py",
        "/..%2f..%2fetc/passwd",
        "/static/",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_but_the_page_is_served(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code in (400, 404)
    assert "import" not in answer.text
    assert "root:" not in answer.text


def test_files_are_known_by_their_ids_alone(page: Page, client: TestClient, tmp_path: Path) -> None:
    visitor = Visitor(client)
    picture = visitor.opened(write_photo(tmp_path / "a.png"))
    for name in (
        "picture.png",
        "%2e%2e",
        "%2e%2e%2fpicture.png",
        "..%2f..%2fpicture.png",
        f"{picture['id']}/samples.npy",
        "%00",
    ):
        assert client.get(f"{visitor.base}/files/{name}").status_code in (404, 405), name
    for token in ("", "x", "..", "%2e%2e", visitor.about["token"][:-1], visitor.about["token"] + "A"):
        assert client.get(f"/api/sessions/{token}").status_code in (404, 405, 307), token


HOSTS = ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.7:7860",
         "[::ffff:1.2.3.4]", "127.0.0.1@evil.example", "", "[", "127.0.0.1:port", "2130706433"]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("address", ["/", "/api/sessions"])
def test_a_borrowed_name_is_refused(client: TestClient, host: str, address: str) -> None:
    """DNS rebinding: another site's name leads to this computer."""
    answer = client.request("GET" if address == "/" else "POST", address, headers={"host": host})
    assert answer.status_code == 403
    assert "token" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "127.0.0.1"])
def test_own_names_are_taken(client: TestClient, host: str) -> None:
    assert client.post("/api/sessions", headers={"host": host, "origin": f"http://{host}"}).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://127.0.0.1:8080"},
        {"origin": "http://localhost:7860"},
        {"origin": "http://127.0.0.1:7860.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_other_sites_cannot_ask(page: Page, client: TestClient, tmp_path: Path, headers: dict[str, str]) -> None:
    """Cross-site request forgery, also by whoever has found out a token."""
    visitor = Visitor(client)
    picture = visitor.opened(write_photo(tmp_path / "a.png"))
    path = f"{visitor.base}/pictures"
    tries = [
        ("POST", "/api/sessions"),
        ("POST", f"{path}?name=a.png"),
        ("DELETE", f"{path}/{picture['id']}"),
        ("POST", f"{path}/{picture['id']}/result"),
        ("GET", f"{visitor.base}/files/{picture['before']}"),
        ("PUT", f"{path}/{picture['id']}/mask"),
        ("POST", f"{visitor.base}/results"),
        ("POST", f"{visitor.base}/leave"),
    ]
    for method, address in tries:
        answer = client.request(method, address, headers=headers)
        assert answer.status_code == 403, (method, address)
        assert "access-control-allow-origin" not in answer.headers
    assert len(files(page)) == 3


def test_a_link_on_another_site_may_lead_here(client: TestClient) -> None:
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_no_site_may_frame_or_read_the_page(client: TestClient) -> None:
    for answer in (
        client.get("/"),
        client.get("/nosuch"),
        client.post("/api/sessions"),
        client.get("/", headers={"host": "x"}),
    ):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


def test_websockets_are_refused(client: TestClient) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/sessions"):
        pass


def test_bound_to_a_network_it_is_called_by_addresses_and_its_own_name(page: Page) -> None:
    client = TestClient(page.application(names=("studio.local",), loopback=False), base_url=HOME)
    for host, status in (("192.168.0.7:7860", 200), ("Studio.local:7860", 200), ("evil.example", 403)):
        assert client.get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("Localhost", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_which_addresses_are_this_computers_own(host: str, own: bool) -> None:
    assert is_loopback(host) is own


def test_what_a_visitor_left_is_deleted(page: Page, client: TestClient, tmp_path: Path) -> None:
    one, two = Visitor(client), Visitor(client)
    one.opened(write_photo(tmp_path / "a.png"))
    two.opened(tmp_path / "a.png")
    assert len(files(page)) == 6
    assert client.post(f"{one.base}/leave").status_code == 204
    page.sessions.expire()
    assert len(files(page)) == 6
    page.sessions.get(one.about["token"]).seen -= page.sessions.grace
    page.sessions.expire()
    assert len(files(page)) == 3
    answer = client.get(one.base)
    assert (answer.status_code, answer.json()["over"]) == (404, True)
    assert client.post(f"{one.base}/leave").status_code == 204


def test_who_comes_back_in_time_finds_everything(page: Page, client: TestClient, tmp_path: Path) -> None:
    visitor = Visitor(client)
    picture = visitor.opened(write_photo(tmp_path / "a.png"))
    client.post(f"{visitor.base}/leave")
    assert client.get(visitor.base).json()["pictures"] == [picture]
    page.sessions.get(visitor.about["token"]).seen -= page.sessions.grace + 1
    page.sessions.expire()
    assert client.get(visitor.base).json()["pictures"] == [picture]


def test_a_page_that_is_not_heard_of_is_over(page: Page, client: TestClient, tmp_path: Path) -> None:
    gone, there = Visitor(client), Visitor(client)
    for visitor in (gone, there):
        visitor.opened(write_photo(tmp_path / "a.png"))
    page.sessions.get(gone.about["token"]).seen = time.monotonic() - 601
    page.sessions.expire()
    assert client.get(gone.base).status_code == 404
    assert client.get(there.base).status_code == 200
    assert len(files(page)) == 3


def test_the_servers_end_deletes_everything(page: Page, tmp_path: Path) -> None:
    with TestClient(page.application(), base_url=HOME) as client:
        visitor = Visitor(client)
        visitor.opened(write_photo(tmp_path / "a.png"))
        assert len(files(page)) == 3
    assert not page.sessions.root.exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_no_other_user_of_the_computer_can_read_the_folder(page: Page) -> None:
    assert page.sessions.root.stat().st_mode & 0o077 == 0


def test_an_upload_that_breaks_off_leaves_nothing(page: Page, client: TestClient) -> None:
    visitor = Visitor(client)

    def broken() -> Iterator[bytes]:
        yield bytes(1000)
        raise ConnectionError("the cable was pulled")

    with pytest.raises(ConnectionError):
        client.post(f"{visitor.base}/pictures?name=a.png", content=broken())
    assert not files(page)
