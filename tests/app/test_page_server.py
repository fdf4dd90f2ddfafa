"""``serve``: the address it takes, and what is left when it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from atbsn.app.page.server import serve
from atbsn.utils.errors import UserError

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
WEIGHTS = Path(__file__).parents[1] / "assets" / "student_a.weights.safetensors"


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_cannot_be_used_is_said(host: str) -> None:
    with pytest.raises(UserError, match=rf"{host}, port 0: cannot be used"):
        serve(WEIGHTS, host=host, port=0, open_browser=False)


def test_a_port_in_use_or_out_of_range_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="another --port"):
            serve(WEIGHTS, port=taken.getsockname()[1], open_browser=False)
    with pytest.raises(UserError, match="another --port"):
        serve(WEIGHTS, port=70_000, open_browser=False)


def test_weights_that_are_not_there_are_said() -> None:
    with pytest.raises(UserError, match=r"nosuch\.pth"):
        serve("nosuch.pth", open_browser=False)


def test_weights_for_raw_files_are_refused() -> None:
    with pytest.raises(UserError, match="a picture of 3 channels: this PhotoNet is for 4"):
        serve("raw", open_browser=False)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_end_deletes_what_was_handed_in(tmp_path: Path, repository: Path, number: signal.Signals) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = f"from atbsn.app.page.server import serve\nserve({str(WEIGHTS)!r}, port={port}, open_browser=False)"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", source], cwd=repository, env=environment)
    try:
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/api/sessions", method="POST")
        for _ in range(1200):
            try:
                urllib.request.urlopen(asked, timeout=60).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        assert [folder for folder in tmp_path.glob("atbsn-page-*") if any(folder.iterdir())]
        process.send_signal(number)
        process.wait(120)
        assert not list(tmp_path.glob("atbsn-page-*"))
    finally:
        process.kill()
