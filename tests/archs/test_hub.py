"""Weights of the Hugging Face hub, fetched by its own library from a stand-in on this computer."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.kinds import Command

import atbsn
from atbsn.archs import build_arch, hub
from atbsn.archs.base import Network
from atbsn.archs.shipped import find_weights
from atbsn.archs.weights import save_weights
from atbsn.utils.errors import UserError

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
NETWORK = {"type": "PhotoNet", "widths": [4, 4], "blocks": 1, "middle_blocks": 1}


class StandIn:
    """A hub: ``files[commit][name]`` of the repository ``someone/net``; counts requests of contents."""

    def __init__(self) -> None:
        self.files = {commit: {} for commit in COMMITS.values()}
        self.asked, self.sent = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_content=False)

            def do_GET(self) -> None:
                self.answer(with_content=True)

            def answer(self, with_content: bool) -> None:
                outer.asked.append(self.path)
                status, content, headers = outer.look_up(self.path)
                if with_content and status == 200:
                    outer.sent.append(self.path)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if with_content:
                    self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def look_up(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and headers of ``/owner/name/resolve/revision/file``, as the hub gives them."""
        repository, _, rest = path.partition("/resolve/")
        if repository != "/someone/net":
            return 404, b"", {"X-Error-Code": "RepoNotFound"}
        revision, _, name = rest.partition("/")
        commit = COMMITS.get(revision, revision)
        if commit not in self.files:
            return 404, b"", {"X-Error-Code": "RevisionNotFound"}
        if name not in self.files[commit]:
            return 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
        content = self.files[commit][name]
        etag = hashlib.sha256(content).hexdigest()
        return 200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}

    def put(self, folder: Path, commit: str = COMMITS["main"]) -> None:
        self.files[commit] = {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in, to which the hub's library goes, with an empty cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    stand_in = StandIn()
    monkeypatch.setattr(constants, "ENDPOINT", stand_in.url)
    template = stand_in.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    hub._fetch.cache_clear()
    yield stand_in
    hub._fetch.cache_clear()
    stand_in.server.shutdown()
    stand_in.server.server_close()


@pytest.fixture
def go_offline(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    from huggingface_hub import constants

    def switch() -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        hub._fetch.cache_clear()

    return switch


def made(folder: Path, seed: int = 0, described: bool = True, **told: Any) -> Network:
    """A folder as ``atbsn export --to hub`` writes it, by hand, and its network."""
    torch.manual_seed(seed)
    net: Any = build_arch(NETWORK).eval()
    torch.nn.init.normal_(net.tail.weight, std=0.02)
    folder.mkdir()
    save_weights(folder / "model.safetensors", net.state_dict(), {"network": net.options})
    checksum = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if described:
        (folder / "config.json").write_text(json.dumps({"sha256": checksum, **told}))
    return net


def same(one: Network, other: Network) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_revision_is_loaded_and_kept(online: StandIn, go_offline: Callable[..., Any], tmp_path: Path) -> None:
    new, old = made(tmp_path / "new"), made(tmp_path / "old", seed=1)
    online.put(tmp_path / "new")
    online.put(tmp_path / "old", COMMITS["v1"])
    assert same(atbsn.load("hf:someone/net"), new)
    assert same(atbsn.load("hf:someone/net@v1"), old)
    commit = COMMITS["v1"]
    assert same(atbsn.load(f"hf:someone/net@{commit}"), old)
    assert len(online.sent) == 4, "weights and description, twice: v1 is this commit"
    go_offline()
    asked = len(online.asked)
    assert same(atbsn.load(f"hf:someone/net@{commit}"), old) and same(atbsn.load("hf:someone/net"), new)
    assert len(online.asked) == asked, "offline, nothing is asked"


def test_a_commit_is_not_asked_for_again(online: StandIn, tmp_path: Path) -> None:
    made(tmp_path / "net")
    online.put(tmp_path / "net")
    name = f"hf:someone/net@{COMMITS['main']}"
    path = find_weights(name)
    asked = len(online.asked)
    hub._fetch.cache_clear()
    assert find_weights(name) == path and len(online.asked) == asked


def test_other_weights_than_described_are_refused(online: StandIn, tmp_path: Path) -> None:
    made(tmp_path / "net")
    online.put(tmp_path / "net")
    weights = bytearray(online.files[COMMITS["main"]]["model.safetensors"])
    weights[-1] ^= 1
    online.files[COMMITS["main"]]["model.safetensors"] = bytes(weights)
    with pytest.raises(UserError, match="damaged or was changed"):
        atbsn.load("hf:someone/net")


def test_damage_in_the_cache_is_noticed(online: StandIn, go_offline: Callable[..., Any], tmp_path: Path) -> None:
    made(tmp_path / "net")
    online.put(tmp_path / "net")
    path = find_weights("hf:someone/net").resolve()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    go_offline()
    with pytest.raises(UserError, match="damaged or was changed"):
        atbsn.load("hf:someone/net")


@pytest.mark.parametrize("description", [None, "no JSON", "[]", '{"sha256": 7}'])
def test_repositories_of_others_need_no_checksum(description: str | None, online: StandIn, tmp_path: Path) -> None:
    net = made(tmp_path / "net", described=False)
    if description is not None:
        (tmp_path / "net" / "config.json").write_text(description)
    online.put(tmp_path / "net")
    assert same(atbsn.load("hf:someone/net"), net)


def test_another_file_of_a_repository(online: StandIn, tmp_path: Path) -> None:
    net = made(tmp_path / "net", described=False)
    (tmp_path / "net" / "model.safetensors").rename(tmp_path / "net" / "other.safetensors")
    online.put(tmp_path / "net")
    assert same(atbsn.load("hf:someone/net/other.safetensors@main"), net)
    assert same(atbsn.load(Path("hf:someone/net/other.safetensors")), net), "commands make paths of names"
    with pytest.raises(UserError, match=r"has no file model\.safetensors; name the one it has"):
        atbsn.load("hf:someone/net")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("hf:someone/another", "no such repository"),
        ("hf:someone/net@v9", "has no revision v9"),
        ("hf:net", "no name of weights on the hub"),
        ("hf:someone/net@", "no name of weights on the hub"),
        ("hf:some one/net", "no name of weights on the hub"),
        ("hf:-someone/net", "cannot be had"),
        ("hf:someone/net/weights.pth", "only safetensors are read"),
        ("hf:someone/net/model.pkl@main", "only safetensors are read"),
    ],
)
def test_wrong_names(name: str, reason: str, online: StandIn, tmp_path: Path) -> None:
    made(tmp_path / "net")
    online.put(tmp_path / "net")
    with pytest.raises(UserError, match=reason):
        atbsn.load(name)


def test_offline_and_not_there(online: StandIn, go_offline: Callable[..., Any]) -> None:
    go_offline()
    with pytest.raises(UserError, match="not in its cache"):
        atbsn.load("hf:someone/net")
    assert not online.asked


def test_its_own_settings_are_heeded(online: StandIn, tmp_path: Path, repository: Path) -> None:
    made(tmp_path / "net")
    online.put(tmp_path / "net")
    program = "from atbsn.archs.hub import fetch_from_hub; print(fetch_from_hub('hf:someone/net'))"
    settings = {"HF_ENDPOINT": online.url, "HF_HOME": str(tmp_path / "home")}
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        environment = {**os.environ, **settings, **more}
        done = subprocess.run([sys.executable, "-c", program], cwd=repository, env=environment, capture_output=True,
                              text=True, timeout=120, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()).is_relative_to(tmp_path / "home")
    assert len(online.sent) == 2


def test_a_hub_that_is_down(online: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's own attempts
    online.server.shutdown()
    online.server.server_close()
    with pytest.raises(UserError, match="the hub cannot be reached"):
        atbsn.load("hf:someone/net")


def test_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    hub._fetch.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'atbsn\[hub\]'"):
        atbsn.load("hf:someone/net")


def test_the_commands_take_such_names(online: StandIn, command: Command, tmp_path: Path) -> None:
    from PIL import Image

    made(tmp_path / "net")
    online.put(tmp_path / "net")
    Image.new("RGB", (40, 30), (90, 120, 150)).save(tmp_path / "photo.png")
    status, output = command("denoise", "photo.png", "--weights", "hf:someone/net@main")
    assert status == 0, output
    assert (tmp_path / "photo_clean.png").is_file()
    assert len(online.sent) == 2, "read several times, downloaded once"
