"""Messages for people: what is wrong, in their words."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.photos import NETWORK, tiny

from atbsn.archs.weights import save_weights
from atbsn.engine.training.state import load_state
from atbsn.options.check import check_options
from atbsn.options.files import find_option_file
from atbsn.options.load import parse_yaml
from atbsn.utils.errors import UserError


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "a b"}, "name: 'a b': not a name for a folder; use letters, digits, '_', '-' and '.', and no spaces"),
        (
            {"train": {"total_iter": 1, "optim": {"type": "adam", "lr": 1}}},
            "there is no such type; did you mean 'Adam'?",
        ),
        ({"datasets": {"foo": {"type": "PolyU"}}}, "not a name of a data set; use train, val or test"),
        ({"network": {"type": "PhotoNet", "widths": ["caf\udce9"]}}, "holds bytes that are not UTF-8; rename the file"),
    ],
)
def test_wrong_options(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        check_options({"name": "x", "network": NETWORK, **change}, "x.yml")
    assert said in str(caught.value)
    assert not any(word in str(caught.value) for word in ("tag", "pattern", "surrogate", "\\w"))


def test_an_override_that_is_no_text() -> None:
    with pytest.raises(UserError, match="--set name: holds bytes that are not UTF-8"):
        parse_yaml("caf\udce9", "--set name")


def test_weights_where_a_state_is_meant(tmp_path: Path) -> None:
    save_weights(tmp_path / "net.pth", tiny().state_dict(), {"network": NETWORK})
    with pytest.raises(UserError, match=r"holds weights, not a training state; name a file of training_states/"):
        load_state(tmp_path / "net.pth")
    torch.save(tiny().state_dict(), tmp_path / "bare.pth")
    with pytest.raises(UserError, match="holds weights, not a training state"):
        load_state(tmp_path / "bare.pth")


def test_option_files_as_windows_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = tmp_path / "package" / "options"
    (shipped / "train").mkdir(parents=True)
    (shipped / "train" / "x.yml").touch()
    for name in (r"options\train\x.yml", "options/train/x.yml", "x.yml"):
        assert find_option_file(name, shipped) == shipped / "train" / "x.yml"
