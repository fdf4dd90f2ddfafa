"""What the tests of the page share: networks, pictures, waiting for computations."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.pictures import Picture, write_picture


def blind_network() -> Network:
    """A small network with a blind spot."""
    torch.manual_seed(0)
    return build_arch({"type": "ATBSN", "width": 2}).eval()


def write_photo(
    path: Path,
    height: int = 60,
    width: int = 90,
    dtype: type[np.unsignedinteger[Any]] = np.uint8,
    alpha: bool = False,
    grey: bool = False,
    seed: int = 0,
) -> Path:
    """Write a noisy picture; gives ``path``."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    scene = np.stack([40 + rows % 120, 200 - columns % 150, 90 + (rows + columns) % 80], axis=2)
    rgb = np.clip(scene + random.normal(0, 12, scene.shape), 0, 255)
    rgb = np.round(rgb * (257 if dtype == np.uint16 else 1)).astype(dtype)
    if grey:
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    mask = random.integers(0, np.iinfo(dtype).max, (height, width)).astype(dtype) if alpha else None
    write_picture(path, Picture(rgb, mask, grey, path.suffix))
    return path


class Gate:
    """Holds a network up: what it is asked for does not begin before it is let through."""

    def __init__(self, net: Network) -> None:
        self._begun, self._open = threading.Event(), threading.Event()
        self._open.set()
        net.register_forward_pre_hook(self._pass)

    @contextlib.contextmanager
    def closed(self, seconds: float = 0.0) -> Iterator[None]:
        """Within, nothing is let through; ``seconds`` after, all is."""
        self._begun.clear()
        self._open.clear()
        try:
            yield
        finally:
            threading.Timer(seconds, self.open).start()

    def open(self) -> None:
        """Let through what is held up, and all that comes."""
        self._open.set()

    def wait(self) -> None:
        """Until something is held up."""
        assert self._begun.wait(60)

    def _pass(self, module: torch.nn.Module, args: Any) -> None:
        self._begun.set()
        assert self._open.wait(60)


class Visitor:
    """A page that is open, as the server sees it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.about = client.post("/api/sessions").json()
        self.base = f"/api/sessions/{self.about['token']}"

    def upload(self, path: Path, name: str | None = None) -> Any:
        """Hand a file in; gives the answer."""
        return self.client.post(f"{self.base}/pictures", params={"name": name or path.name}, content=path.read_bytes())

    def opened(self, path: Path, name: str | None = None) -> dict[str, Any]:
        """Hand a picture in; gives its facts."""
        answer = self.upload(path, name)
        assert answer.status_code == 201, answer.text
        facts: dict[str, Any] = answer.json()
        return facts

    def ask(self, address: str, **body: Any) -> str:
        """Put a computation into the queue; gives its id."""
        answer = self.client.post(f"{self.base}/{address}", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def finished(self, job: str, seconds: float = 120) -> dict[str, Any]:
        """The state of a computation when it is over."""
        end = time.monotonic() + seconds
        while True:
            state: dict[str, Any] = self.client.get(f"{self.base}/jobs/{job}").json()
            if state["state"] in ("done", "failed", "stopped"):
                return state
            assert time.monotonic() < end, state
            time.sleep(0.01)

    def computed(self, address: str, **body: Any) -> Any:
        """The result of a computation."""
        state = self.finished(self.ask(address, **body))
        assert state["state"] == "done", state
        return state["result"]

    def fetch(self, file: str) -> bytes:
        """The bytes of a file."""
        answer = self.client.get(f"{self.base}/files/{file}")
        assert answer.status_code == 200
        content: bytes = answer.content
        return content

    def view(self, file: str, height: int, width: int) -> np.ndarray:
        """(H, W, 3) grey values of a view."""
        return np.frombuffer(self.fetch(file), "<i2").reshape(height, width, 3) / 64
