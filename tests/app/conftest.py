"""Fixtures of the tests of the ``atbsn`` command."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.kinds import Command
from helpers.photos import NETWORK, tiny

from atbsn.app.main import run
from atbsn.archs.weights import save_weights


@pytest.fixture
def atbsn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """``atbsn("denoise", ...)``: its exit status and what it says, in an empty folder with ``tiny.pth``."""
    monkeypatch.chdir(tmp_path)
    save_weights("tiny.pth", tiny().state_dict(), {"network": NETWORK})

    def call(*arguments: object) -> tuple[int | str, str]:
        monkeypatch.setattr(sys, "argv", ["atbsn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            run()
        captured = capsys.readouterr()
        return ending.value.code or 0, captured.out + captured.err

    return call


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium for the tests of a module, each of which opens a tab of its own."""
    from helpers.page_browser import chromium  # needs selenium

    with chromium(tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("downloads")) as driver:
        yield driver
