"""Files of unknown origin are refused with a message, and nothing in them is executed."""

import io
import json
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import Run, tiny

from atbsn.archs.weights import read_weights
from atbsn.data.store.manifest import PatchManifest
from atbsn.engine.training.state import compare_settings, load_state, newest_state, save_state
from atbsn.options.load import parse_yaml
from atbsn.pictures import picture_size, read_picture
from atbsn.utils.errors import UserError


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("untrusted")
    run = Run(folder / "run", tiny(folder))
    assert run.train().status == 0
    return run


@pytest.fixture
def state(trained: Run) -> dict[str, Any]:
    """The content of a whole state, to be spoilt."""
    return torch.load(trained.experiment / "training_states" / "8.state", weights_only=True)


@pytest.fixture
def saved(trained: Run) -> bytes:
    return (trained.experiment / "training_states" / "8.state").read_bytes()


def refuses(path: Path, what: str = "") -> str:
    with pytest.raises(UserError, match=what) as caught:
        load_state(path)
    message = str(caught.value)
    assert str(path) in message and len(message) < 500 + len(str(path)) and "\n" not in message
    return message


@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "nested"])
def test_nothing_is_executed(tmp_path: Path, state: dict[str, Any], form: str) -> None:
    proof = tmp_path / "executed"
    for suffix, read in ((".state", load_state), (".pth", read_weights)):
        path = tmp_path / f"bomb{suffix}"
        content = {**state, "metadata": Bomb(proof)} if form != "nested" else {**state, "params": {"a": [Bomb(proof)]}}
        if form == "bare":
            path.write_bytes(pickle.dumps(content["metadata"]))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
        with pytest.raises(UserError, match="not a readable"):
            read(path)
        assert not proof.exists()
    torch.load(path, weights_only=False) if form != "bare" else pickle.loads(path.read_bytes())
    assert proof.exists()  # it would have


def test_every_way_of_being_cut_off_is_seen(tmp_path: Path, saved: bytes) -> None:
    path = tmp_path / "8.state"
    for length in [0, 1, 4, 100, *range(1000, len(saved), len(saved) // 25), len(saved) - 1]:
        path.write_bytes(saved[:length])
        refuses(path, "not a readable training state")


def test_flipped_bits_are_seen(tmp_path: Path, saved: bytes) -> None:
    """Anywhere but in the padding and the dates of a zip, which mean nothing."""
    path = tmp_path / "8.state"
    rng = random.Random(0)
    original = torch.load(io.BytesIO(saved), weights_only=True)
    seen = 0
    for _ in range(200):
        damaged = bytearray(saved)
        damaged[rng.randrange(len(saved))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            content = load_state(path).content
        except UserError:
            seen += 1
        else:
            assert_same_tensors(content, original)
    assert seen > 100


def assert_same_tensors(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same_tensors(one[key], other[key])
    elif isinstance(one, list):
        for pair in zip(one, other, strict=True):
            assert_same_tensors(*pair)
    else:
        assert one == other


def test_flipped_bits_of_weights_are_seen(tmp_path: Path, trained: Run) -> None:
    source = trained.experiment / "models" / "net_8.pth"
    data = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        (entry,) = (entry for entry in archive.infolist() if entry.filename.endswith("data/0"))
    data[entry.header_offset + 200] ^= 64  # behind the header and the alignment of the first tensor
    path = tmp_path / "net.pth"
    path.write_bytes(data)
    torch.load(path, weights_only=True)  # torch does not look
    with pytest.raises(UserError, match=r"checksum of .*data/0 is wrong"):
        read_weights(path)


def test_a_few_bytes_are_not_unpacked_to_gigabytes(tmp_path: Path, saved: bytes) -> None:
    path = tmp_path / "8.state"
    with zipfile.ZipFile(io.BytesIO(saved)) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in source.infolist():
            data = bytes(50_000_000) if entry.filename.endswith("data/0") else source.read(entry)
            bomb.writestr(entry.filename, data)
    assert path.stat().st_size < 200_000
    refuses(path, "compressed")


KEYS = [
    "iteration", "reported", "seed", "settings", "params", "ema", "optimizer", "scaler", "best_score", "processes"
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_every_part_has_to_be_there_and_of_its_kind(tmp_path: Path, state: dict[str, Any], key: str) -> None:
    assert set(state) == {*KEYS, "method"}  # which states of before do not have
    path = tmp_path / "8.state"
    for value in (torch.zeros(2), "text" if key != "settings" else 5, [[]] if key != "processes" else {}):
        save_state(path, {**state, key: value})
        refuses(path, "not a readable training state")
    del state[key]
    save_state(path, state)
    refuses(path, key)


@pytest.mark.parametrize("change", [{"iteration": -1}, {"settings": "{"}, {"settings": "[" * 100_000}])
def test_impossible_values(tmp_path: Path, state: dict[str, Any], change: dict[str, Any]) -> None:
    path = tmp_path / "8.state"
    save_state(path, {**state, **change})
    refuses(path, "not a readable training state")


def test_what_is_no_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "8.state"
    for content in (5, [1], torch.zeros(3), {}, "text"):
        torch.save(content, path)
        refuses(path, "not a (readable )?training state")


def claims(shape: Sequence[int]) -> torch.Tensor:
    """A tensor of any size on the disk of one number."""
    return torch.zeros(1).expand(shape)


def first(tensors: Iterable[Any]) -> Any:
    return next(iter(tensors))


SPOILT = {
    "a weight of another shape": lambda s: s["params"].update({first(s["params"]): torch.zeros(3)}),
    "a weight of any size": lambda s: s["params"].update({first(s["params"]): claims((10**9, 10**9))}),
    "a weight that is text": lambda s: s["params"].update({first(s["params"]): "text"}),
    "a sparse weight": lambda s: s["params"].update({k: v.to_sparse() for k, v in s["params"].items()}),
    "a weight too many": lambda s: s["params"].update({"more": torch.zeros(3)}),
    "no weights": lambda s: s["params"].clear(),
    "an average of another shape": lambda s: s["ema"].update({first(k for k in s["ema"] if "." in k): torch.zeros(3)}),
    "no average": lambda s: s["ema"].clear(),
    "a moment of another shape": lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)),
    "a moment of any size": lambda s: s["optimizer"]["state"][0].update(exp_avg_sq=claims((10**9, 10**9))),
    "a moment that is text": lambda s: s["optimizer"]["state"][0].update(exp_avg="text"),
    "a moment missing": lambda s: s["optimizer"]["state"][0].pop("exp_avg"),
    "steps that are many": lambda s: s["optimizer"]["state"][0].update(step=torch.zeros(7)),
    "no groups": lambda s: s["optimizer"].update(param_groups=[]),
    "no optimizer": lambda s: s["optimizer"].clear(),
    "no generators": lambda s: s["processes"][0].clear(),
    "a generator of text": lambda s: s["processes"][0]["generators"].update(torch="text"),
    "a generator of another length": lambda s: s["processes"][0]["generators"].update(torch=torch.zeros(3).byte()),
    "a generator of any size": lambda s: s["processes"][0]["generators"].update(torch=claims((10**12,)).byte),
    "numbers for numpy": lambda s: s["processes"][0]["generators"]["numpy"].__setitem__(1, [1, 2]),
    "numbers for Python": lambda s: s["processes"][0]["generators"].update(python=[3, [1, 2], None]),
    "a meter of text": lambda s: s["processes"][0]["meter"].update(sums={"loss": "text"}),
}
SPOILT["a generator of any size"] = lambda s: s["processes"][0]["generators"].update(
    torch=torch.zeros(1, dtype=torch.uint8).expand(10**12)
)


@pytest.mark.parametrize("what", SPOILT)
def test_a_state_that_does_not_fit_is_refused(tmp_path: Path, trained: Run, state: dict[str, Any], what: str) -> None:
    SPOILT[what](state)
    path = tmp_path / "8.state"
    save_state(path, state)
    run = Run(tmp_path / "run", trained.options | {"path": {"resume_state": str(path)}})
    outcome = run.train()
    assert outcome.status == 2 and "Traceback" not in outcome.output, outcome.output
    assert f"{path}: " in outcome.output and len(outcome.output) < 2000
    assert not list(run.experiment.glob("*/net_*"))


def test_weights_that_a_state_lacks_are_named(tmp_path: Path, trained: Run, state: dict[str, Any]) -> None:
    missing = first(state["params"])
    del state["params"][missing]
    save_state(tmp_path / "8.state", state)
    run = Run(tmp_path / "run", trained.options | {"path": {"resume_state": str(tmp_path / "8.state")}})
    outcome = run.train()
    assert outcome.status == 2 and f'Missing key(s) in state_dict: "{missing}"' in outcome.output, outcome.output


def test_endless_settings_are_not_printed(tmp_path: Path, state: dict[str, Any]) -> None:
    path = tmp_path / "8.state"
    save_state(path, {**state, "settings": json.dumps({"network": {"type": "x" * 10**6}, "more": list(range(10**5))})})
    with pytest.raises(UserError) as caught:
        compare_settings(load_state(path), {"network": {"type": "ATBSN"}, "train": {"ema_decay": 0.9}})
    assert len(str(caught.value)) < 500


def test_the_newest_readable_state(tmp_path: Path, saved: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert newest_state(tmp_path / "none") is None
    for name in ("4.state", "8.state", "12.state", "x.state", "100.state.set_aside", "9.pth"):
        (tmp_path / name).write_bytes(saved)
    (tmp_path / "12.state").write_bytes(saved[:-9])
    assert newest_state(tmp_path).path == tmp_path / "8.state"


def png(width: int, height: int) -> bytes:
    """The beginning of a PNG file of any size."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", body), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    crc = lambda kind, data: struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + crc(kind, data) for kind, data in chunks
    )


def test_a_picture_that_claims_any_size(tmp_path: Path, trained: Run) -> None:
    path = tmp_path / "pictures" / "bomb.png"
    path.parent.mkdir()
    path.write_bytes(png(100_000, 100_000))
    for read in (read_picture, picture_size):
        with pytest.raises(UserError, match=r"bomb\.png: cannot be read as a picture"):
            read(path)
    run = Run(tmp_path / "run", tiny(trained.folder.parent))
    run.options["datasets"]["train"]["dataroot"] = str(path.parent)
    outcome = run.train()
    assert outcome.status == 2 and "bomb.png" in outcome.output and "Traceback" not in outcome.output
    assert not run.experiment.exists()


@pytest.mark.parametrize("key", ["../evil", "/etc/evil", "a/../../evil", "C:\\evil", "..", "a\\..\\..\\evil"])
def test_a_manifest_that_leads_outside(key: str) -> None:
    from atbsn.data.store.manifest import Patch

    text = PatchManifest("png", 8, 8, "0" * 64, [Patch(key, 8, 8, 0)]).to_json()
    with pytest.raises(UserError, match="manifest"):
        PatchManifest.from_json(text, "manifest.json")


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch executed']",
        "a: !!python/name:os.system",
        "!!python/object/new:os.mkdir [executed]",
    ],
)
def test_option_files_execute_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="not valid YAML"):
        parse_yaml(text, "x.yml")
    assert not list(tmp_path.iterdir())
