"""atbsn export --to hub: a folder that can be uploaded, with a card and a checksum."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.kinds import Command

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.weights import load, read_weights, save_weights


def parts(folder: Path) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """What the hub reads of the card, its text, and the description."""
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text, json.loads((folder / "config.json").read_text(encoding="utf-8"))


def save(path: Path, options: dict[str, Any], seed: int = 0, **metadata: Any) -> Network:
    torch.manual_seed(seed)
    net = build_arch(options)
    save_weights(path, net.state_dict(), {"network": net.options, **metadata})
    return net


def test_shipped_weights(command: Command, tmp_path: Path) -> None:
    status, output = command("export", "fast", "--to", "hub")
    assert status == 0 and "hf upload OWNER/atbsn-fast" in output and "license" not in output, output
    folder = tmp_path / "atbsn-fast"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    front, text, described = parts(folder)
    assert front["license"] == "apache-2.0" and front["pipeline_tag"] == "image-to-image"
    checksum = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert described["sha256"] == checksum and checksum in text and checksum in output
    assert described["network"]["type"] == "PhotoNet"
    assert "123,180 parameters" in text and "A tenth of `real`'s size" in text, "the card of shipped weights is there"
    assert (folder / "model.safetensors").stat().st_size < 300_000, "numbers of 16 bits stay so"
    one, other = load("fast"), load(folder / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_ones_own_weights(command: Command, tmp_path: Path) -> None:
    net = save(tmp_path / "mine.pth", {"type": "ATBSN", "width": 4}, k=5, iteration=7, dataset="NoisyFolder",
               data="a | b", dataroot="/home/somebody")  # fmt: skip
    status, output = command("export", "mine.pth", "out/My-Net", "--to", "hub")
    assert status == 0 and "under which terms" in output, output
    front, text, described = parts(tmp_path / "out" / "My-Net")
    assert "license" not in front and "# My-Net" in text and "| trained on | a / b |" in text
    assert described["denoise"] == {"k": 5} and described["iteration"] == 7
    weights = read_weights(tmp_path / "out" / "My-Net" / "model.safetensors")
    assert "dataroot" not in {**weights.metadata, **described}, "nothing of this computer goes along"
    assert load(tmp_path / "out" / "My-Net" / "model.safetensors").denoise_settings == {"k": 5}
    own = net.state_dict()
    assert own.keys() == weights.params.keys(), "of 32 bits, which 16 would round"
    assert all(torch.equal(own[name], weights.params[name]) for name in own)


def test_other_terms(command: Command, tmp_path: Path) -> None:
    save(tmp_path / "mine.pth", {"type": "StudentA"}, terms="SIDD's: research")
    assert command("export", "mine.pth", "--to", "hub")[0] == 0
    front, text, _ = parts(tmp_path / "atbsn-mine")
    assert front["license"] == "other" and "| terms | SIDD's: research |" in text


@pytest.mark.parametrize("present", ["folder", "file"])
def test_what_is_there_stays(present: str, command: Command, tmp_path: Path) -> None:
    save(tmp_path / "mine.pth", {"type": "StudentA"})
    place = tmp_path / "atbsn-mine"
    if present == "folder":
        place.mkdir()
        (place / "README.md").write_text("mine")
    else:
        place.write_text("mine")
    status, output = command("export", "mine.pth", "--to", "hub")
    assert status == 2 and "is there already" in output
    assert (place / "README.md" if present == "folder" else place).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["atbsn-mine", "mine.pth"]


def test_half_is_for_graphs(command: Command, tmp_path: Path) -> None:
    save(tmp_path / "mine.pth", {"type": "StudentA"})
    status, output = command("export", "mine.pth", "--to", "hub", "--half")
    assert status == 2 and "is for graphs" in output and not (tmp_path / "atbsn-mine").exists()


def test_a_failure_leaves_nothing(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "mine.pth", {"type": "StudentA"})

    def fail(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("atbsn.engine.export.hub.write_text", fail)
    status, output = command("export", "mine.pth", "--to", "hub")
    assert status == 2 and "free some space" in output, output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.pth"]
