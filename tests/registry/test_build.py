from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atbsn.ops.blind_spot import BlindSpot
from atbsn.registry import Registry
from atbsn.registry.build import build, check_arguments, describe_faults
from atbsn.utils.errors import UserError
from atbsn.utils.types import PositiveFloat


class Camera:
    def __init__(
        self,
        sensor: object,
        width: Annotated[int, Gt(0)],
        gain: PositiveFloat = 1.0,
        mode: Literal["raw", "srgb"] = "srgb",
        ks: list[BlindSpot] | None = None,
        size: tuple[int, int] = (4, 4),
        folder: str | None = None,
    ) -> None:
        self.sensor, self.width, self.gain, self.mode = sensor, width, gain, mode
        self.ks, self.size, self.folder = ks, size, folder


@pytest.fixture
def cameras() -> Registry[Any]:
    registry = Registry("camera", "atbsn.ops")
    registry.register(Camera)
    return registry


def faults(**arguments: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        check_arguments(Camera, arguments, exclude=("sensor",))
    return str(caught.value).splitlines()


def test_builds_from_a_copy_of_the_options(cameras: Registry[Any]) -> None:
    options = {"type": "Camera", "width": 8, "size": [2, 3], "gain": 3}
    camera = build(cameras, options, sensor="given")
    assert (camera.sensor, camera.width, camera.size, camera.gain) == ("given", 8, (2, 3), 3.0)
    assert camera.mode == "srgb"
    assert options == {"type": "Camera", "width": 8, "size": [2, 3], "gain": 3}


def test_only_what_is_given_is_handed_on() -> None:
    assert check_arguments(Camera, {"width": 8}, exclude=("sensor",)) == {"width": 8}


def test_type_is_missing_or_unknown(cameras: Registry[Any]) -> None:
    with pytest.raises(UserError, match=r"'type' is missing; name a camera: Camera"):
        build(cameras, {"width": 8})
    with pytest.raises(UserError, match=r"'Camara' is not a registered camera; did you mean 'Camera'\?"):
        build(cameras, {"type": "Camara"})


def test_an_unknown_key_suggests_the_nearest() -> None:
    assert faults(width=8, gian=2.0) == ["gian: unknown key; did you mean 'gain'?"]


def test_what_is_given_by_the_program_is_no_option() -> None:
    assert faults(width=8, sensor="mine")[0].startswith("sensor: unknown key")


def test_a_missing_key_is_named() -> None:
    assert faults() == ["width: missing; this key is required"]


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("width", "8", "width: '8': "),
        ("width", True, "width: True: "),
        ("width", 8.5, "width: 8.5: "),
        ("width", 0, "greater than 0"),
        ("width", None, "width: None: "),
        ("gain", "3e-4x", "gain: '3e-4x': "),
        ("gain", -1.0, "greater than 0"),
        ("gain", float("nan"), "gain: "),
        ("gain", float("inf"), "gain: "),
        ("mode", "jpeg", "'raw' or 'srgb'"),
        ("ks", [0, 2], "ks.1: 2: k = 2: a blind spot is 0"),
        ("ks", 3, "ks: 3: "),
        ("size", [1, 2, 3], "size: "),
        ("folder", 3, "folder: 3: "),
    ],
)
def test_value_and_rule_are_said(argument: str, value: bool | float | list[int] | str | None, words: str) -> None:
    message = "\n".join(faults(**{"width": 8, argument: value}))
    assert message.startswith(argument)
    assert words in message


def test_all_faults_at_once(cameras: Registry[Any]) -> None:
    arguments = {"gian": 2, "mode": "jpeg", "ks": [0, 2, 4]}
    assert [fault.partition(":")[0] for fault in faults(**arguments)] == ["gian", "ks.1", "ks.2", "mode", "width"]
    with pytest.raises(UserError) as caught:
        build(cameras, {"type": "Camera", **arguments}, sensor=None)
    assert [fault.split(":")[0] for fault in str(caught.value).split("; Camera.")] == [
        "Camera.gian", "ks.1", "ks.2", "mode", "width",
    ]  # fmt: skip


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Adam(Strict):
    type: Literal["Adam"]
    lr: float


class SGD(Strict):
    type: Literal["SGD"]
    lr: float
    momentum: float = 0.0


class Train(Strict):
    total_iter: int
    optim: Annotated[Adam | SGD, Field(discriminator="type")]


class Run(Strict):
    train: Train


@pytest.mark.parametrize(
    ("optim", "fault"),
    [
        ({"type": "Adam", "lrr": 1.0, "lr": 1.0}, "train.optim.lrr: unknown key; did you mean 'lr'?"),
        ({"type": "SGD", "lr": 1.0, "momentun": 0.9}, "train.optim.momentun: unknown key; did you mean 'momentum'?"),
        ({"type": "SGD"}, "train.optim.lr: missing; this key is required"),
    ],
)
def test_paths_are_the_users_keys_through_nested_sections_and_unions(optim: dict[str, Any], fault: str) -> None:
    data = {"train": {"total_iter": 3, "optim": optim}}
    with pytest.raises(ValidationError) as caught:
        Run.model_validate(data)
    assert describe_faults(caught.value, Run, data) == [fault]
    assert describe_faults(caught.value, Run, data, prefix="file.") == [f"file.{fault}"]
