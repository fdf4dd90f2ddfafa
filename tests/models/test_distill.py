import copy
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import atbsn
from atbsn.archs.atbsn import ATBSN
from atbsn.archs.students import StudentA, StudentB, StudentC
from atbsn.archs.weights import save_weights
from atbsn.engine.build import build_method, build_network
from atbsn.models import build_model
from atbsn.models.distill import DistillModel
from atbsn.ops.texture import texture_weight
from atbsn.options import load_options
from atbsn.utils.errors import UserError

WIDTH = 4
KS = (0, 1, 3, 5, 7, 9, 11)
PROGRESS = torch.tensor(0.0)


def save_network(path: Path, seed: int = 0, **options: Any) -> str:
    torch.manual_seed(seed)
    net = atbsn.build_arch(options)
    save_weights(path, net.state_dict(), {"network": net.options})
    return str(path)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_network(tmp_path_factory.mktemp("teacher") / "teacher.pth", type="ATBSN", width=WIDTH)


def student(seed: int = 1, width: int = WIDTH, **arguments: Any) -> StudentC:
    torch.manual_seed(seed)
    return StudentC(width, **arguments)


def batch(size: int = 32, count: int = 2) -> dict[str, Tensor]:
    return {"noisy": torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2)) * 255}


@torch.no_grad()
def targets(path: str, noisy: Tensor, ks: Sequence[int] = KS) -> Tensor:
    """What each teacher says, one pass each: (K, B, 3, H, W)."""
    net = atbsn.load(path)
    return torch.stack([net(noisy, k=k) for k in ks])


# --- losses ------------------------------------------------------------------------------------------------


def gradients(model: DistillModel, loss: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, list(model.net.parameters()))


def assert_same_loss(model: DistillModel, losses: dict[str, Tensor], expected: Tensor) -> None:
    """The same value, and the same gradient in every weight of the student."""
    torch.testing.assert_close(losses["loss"], expected)
    for actual, wanted in zip(gradients(model, losses["loss"]), gradients(model, expected), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ks", [KS, (0, 1, 3, 5, 7, 9), (3,)])
def test_multi_teacher_is_the_sum_of_seven_passes(teacher: str, ks: tuple[int, ...]) -> None:
    model, given = DistillModel(student(), teacher, ks), batch()
    distances = [F.l1_loss(model.net(given["noisy"]), target) for target in targets(teacher, given["noisy"], ks)]
    losses = model(given, PROGRESS)
    assert_same_loss(model, losses, torch.stack(distances).sum())
    assert list(losses) == ["loss", *(f"k{k}" for k in ks)]
    for k, distance in zip(ks, distances, strict=True):
        torch.testing.assert_close(losses[f"k{k}"], distance.detach())
        assert not losses[f"k{k}"].requires_grad


def test_mean_teacher(teacher: str) -> None:
    model, given = DistillModel(student(), teacher, loss="mean_teacher"), batch()
    expected = F.l1_loss(model.net(given["noisy"]), targets(teacher, given["noisy"]).mean(dim=0))
    assert_same_loss(model, model(given, PROGRESS), expected)


@pytest.mark.parametrize("ks", [(0, 9), (9, 0)])
def test_region_splits_between_the_smallest_and_the_largest(teacher: str, ks: tuple[int, int]) -> None:
    model, given = DistillModel(student(), teacher, ks, loss="region"), batch()
    texture, flat = targets(teacher, given["noisy"], (0, 9))
    weight = texture_weight(flat, 1.0, 5.0)
    output = model.net(given["noisy"])
    expected = ((1 - weight) * (output - flat).abs()).mean() + (weight * (output - texture).abs()).mean()
    assert_same_loss(model, model(given, PROGRESS), expected)


@pytest.mark.parametrize("loss", ["multi_teacher", "mean_teacher"])
def test_distilling_brings_the_student_to_its_teachers(teacher: str, loss: Any) -> None:
    model, given = DistillModel(student(), teacher, loss=loss), batch(count=1)
    optimizer = torch.optim.Adam(model.net.parameters(), 5e-3)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        value = model(given, PROGRESS)["loss"]
        value.backward()
        optimizer.step()
        history.append(value.item())
    assert history[-1] < 0.6 * history[0]


def test_one_feature_pass_whatever_the_loss(teacher: str) -> None:
    """A step costs the family's 1.5 MMAC a pixel at width 48, not the 8.8 of seven teachers; here at width 4."""

    def cost(run: Callable[..., Any]) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        return counter.get_total_flops()

    given, net = batch(), atbsn.load(teacher)
    family = cost(lambda: net.forward_teachers(given["noisy"], KS))
    for loss in ("multi_teacher", "mean_teacher"):
        model = DistillModel(student(), teacher, loss=loss)
        alone = cost(lambda model=model: model.net(given["noisy"]))
        assert cost(lambda model=model: model(given, PROGRESS)) == family + alone


# --- the teacher stays apart -------------------------------------------------------------------------------


def test_teacher_is_frozen_and_no_part_of_the_method(teacher: str) -> None:
    model = DistillModel(student(), teacher)
    assert list(model.state_dict()) == [f"net.{name}" for name in student().state_dict()]
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"net"}
    assert not any(isinstance(module, ATBSN) for module in model.modules())
    before = {name: tensor.clone() for name, tensor in model.teacher.state_dict().items()}
    model.train()
    model(batch(), PROGRESS)["loss"].backward()
    assert not model.teacher.training
    for parameter in model.teacher.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None
    assert all(torch.equal(model.teacher.state_dict()[name], tensor) for name, tensor in before.items())


def test_teacher_follows_every_conversion(teacher: str) -> None:
    model = DistillModel(student(), teacher)
    model.to(memory_format=torch.channels_last)
    assert model.teacher.unet.enc1.conv1.conv.weight.is_contiguous(memory_format=torch.channels_last)
    model.bfloat16()
    assert {p.dtype for p in model.teacher.parameters()} == {torch.bfloat16}
    assert model({"noisy": batch()["noisy"].bfloat16()}, PROGRESS)["loss"].isfinite()
    model.to(torch.float64)
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float64}
    model.to("meta")
    assert {p.device.type for p in (*model.teacher.parameters(), *model.net.parameters())} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_teacher_follows_to_the_gpu(teacher: str) -> None:
    model = DistillModel(student(), teacher).cuda()
    given = {"noisy": batch()["noisy"].cuda()}
    assert model(given, PROGRESS.cuda())["loss"].device.type == "cuda"


def test_a_copy_has_its_own_teacher(teacher: str) -> None:
    model = DistillModel(student(), teacher)
    twin = copy.deepcopy(model).bfloat16()
    assert model.teacher.nin_C.weight.dtype == torch.float32
    assert twin.teacher.nin_C.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("loss", ["multi_teacher", "mean_teacher", "region"])
def test_teachers_compute_under_the_callers_autocast(teacher: str, loss: Any) -> None:
    model, given = DistillModel(student(), teacher, KS if loss != "region" else (0, 9), loss), batch()
    expected = model(given, PROGRESS)["loss"]
    seen = []
    model.teacher.nin_B.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(given, PROGRESS)
    losses["loss"].backward()
    assert set(seen) == {torch.bfloat16}
    assert losses["loss"].dtype == torch.float32
    torch.testing.assert_close(losses["loss"], expected, rtol=0.05, atol=0)


@pytest.mark.parametrize("loss", ["multi_teacher", "region"])
def test_compiles_as_one_graph(teacher: str, loss: Any) -> None:
    model, given = DistillModel(student(), teacher, (0, 9), loss), batch()
    expected = model(given, PROGRESS)["loss"]
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    losses = compiled(given, PROGRESS)
    losses["loss"].backward()
    torch.testing.assert_close(losses["loss"], expected)


# --- transfer ----------------------------------------------------------------------------------------------


def test_student_c_takes_over_all_but_dec1(teacher: str) -> None:
    fresh = student().state_dict()
    net = DistillModel(student(), teacher).net
    source = atbsn.load(teacher).state_dict()
    for name, tensor in net.state_dict().items():
        expected = fresh if name.startswith("unet.dec1.") else source
        assert torch.equal(tensor, expected[name]), name
    assert not torch.equal(fresh["unet.intro.conv.weight"], source["unet.intro.conv.weight"])


@pytest.mark.parametrize("transfer", [None, False])
def test_other_students_keep_their_weights(teacher: str, transfer: bool | None) -> None:
    torch.manual_seed(1)
    net = StudentA()
    before = copy.deepcopy(net.state_dict())
    DistillModel(net, teacher, transfer=transfer)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_transfer_can_be_switched_off(teacher: str) -> None:
    net = DistillModel(student(width=8), teacher, transfer=False).net
    expected = student(width=8).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in net.state_dict().items())


def test_student_sees_what_its_teacher_sees(tmp_path: Path) -> None:
    """The weights taken over meet the input statistics that they were trained on, centred or not."""
    path = save_network(tmp_path / "centred.pth", type="ATBSN", width=WIDTH, mean=127.5)
    model, noisy = DistillModel(student(mean=127.5), path), batch()["noisy"]
    seen = []
    for unet in (model.teacher.unet, model.net.unet):
        unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model({"noisy": noisy}, PROGRESS)
    by_teacher, by_student = seen
    assert torch.equal(by_teacher[: len(noisy)], by_student)
    assert torch.equal(by_student, noisy - 127.5)


@pytest.mark.parametrize("net", [StudentA, StudentB])
def test_transfer_to_a_light_student_is_refused(teacher: str, net: type[StudentA] | type[StudentB]) -> None:
    with pytest.raises(UserError, match=r"model.transfer: Student[AB] has other layers than the teacher; use StudentC"):
        DistillModel(net(), teacher, transfer=True)


@pytest.mark.parametrize("transfer", [None, True])
def test_transfer_to_another_width_is_refused(teacher: str, transfer: bool | None) -> None:
    with pytest.raises(UserError, match=r"network.width: 8, but .* has 4; use width: 4, or model.transfer: false"):
        DistillModel(student(width=8), teacher, transfer=transfer)


def test_transfer_to_another_mean_is_refused(teacher: str) -> None:
    with pytest.raises(UserError, match=r"network.mean: 127.5, but .* has 0.0; use mean: 0.0, or model.transfer"):
        DistillModel(student(mean=127.5), teacher)


def test_weights_that_are_given_stay(teacher: str, tmp_path: Path) -> None:
    """A student to go on with, or to validate, is not overwritten by its teacher."""
    given = save_network(tmp_path / "given.pth", seed=7, type="StudentC", width=WIDTH)
    options = {
        "name": "given",
        "network": {"type": "StudentC", "width": WIDTH},
        "model": {"type": "DistillModel", "teacher": teacher},
        "path": {"pretrain_network": given},
    }
    (tmp_path / "given.yml").write_text(yaml.safe_dump(options))
    for overrides in ([], ["network=null"]):
        loaded = load_options(str(tmp_path / "given.yml"), overrides)
        model = build_method(loaded, build_network(loaded)[0])
        expected = atbsn.load(given).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in model.net.state_dict().items())


# --- metadata and bad input --------------------------------------------------------------------------------


def test_metadata_names_the_teacher(teacher: str) -> None:
    digest = hashlib.sha256(Path(teacher).read_bytes()).hexdigest()
    metadata = DistillModel(student(), teacher, (0, 9), "mean_teacher").metadata()
    assert metadata == {"teacher": {"file": teacher, "sha256": digest, "ks": [0, 9]}, "loss": "mean_teacher"}


def test_students_file_holds_the_student_alone(teacher: str, tmp_path: Path) -> None:
    model = DistillModel(student(), teacher)
    metadata = {"network": {"type": "StudentC", "width": WIDTH}, **model.metadata()}
    save_weights(tmp_path / "student.pth", model.net.state_dict(), metadata)
    found = torch.load(tmp_path / "student.pth", weights_only=True)
    assert set(found["params"]) == set(student().state_dict())
    assert found["metadata"]["teacher"]["ks"] == list(KS)


def test_patches_suit_teacher_and_student(teacher: str) -> None:
    for net in (StudentA, StudentC):
        assert DistillModel.patch_multiple(net, {"teacher": teacher}) == 32
        assert DistillModel.patch_multiple(net, {"teacher": "not trained yet.pth"}) == 32


def test_missing_teacher(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pth: no such weight file; "):
        DistillModel(student(), str(tmp_path / "none.pth"))


@pytest.mark.parametrize("options", [{"type": "StudentA"}, {"type": "StudentC", "width": WIDTH}])
def test_a_student_as_teacher(tmp_path: Path, options: dict[str, Any]) -> None:
    path = save_network(tmp_path / "student.pth", **options)
    with pytest.raises(UserError, match=rf"model.teacher: .*student\.pth: holds a {options['type']}.*give the weights"):
        DistillModel(student(), path)


def test_a_teacher_as_student(teacher: str) -> None:
    with pytest.raises(UserError, match=r"network.type: ATBSN has a blind spot.*use StudentA, B or C"):
        DistillModel(ATBSN(WIDTH), teacher)


BAD_KS = {
    "ks is empty: name at least one": [],
    "a blind spot counts once; use \\[0, 3, 9\\]": [0, 3, 9, 3],
    "k = 4: a blind spot is 0 .* or an odd number": [0, 4],
    "k = -1: a blind spot is 0 .* or an odd number": [-1],
}


@pytest.mark.parametrize(("message", "ks"), BAD_KS.items(), ids=map(str, BAD_KS.values()))
def test_bad_ks(teacher: str, message: str, ks: list[int]) -> None:
    with pytest.raises(UserError, match=message):
        DistillModel(student(), teacher, ks)
    options = {"type": "DistillModel", "teacher": teacher, "ks": ks}
    with pytest.raises(UserError, match=rf"model\.ks: .*{message}|model\.ks: {message}"):
        build_model(options, student())


@pytest.mark.parametrize("ks", [KS, (0,), (0, 3, 9)])
def test_region_takes_two(teacher: str, ks: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"model.ks: .*: region takes two, for texture and for flat; use \[0, 9\]"):
        DistillModel(student(), teacher, ks, loss="region")


def test_thresholds_in_their_order(teacher: str) -> None:
    with pytest.raises(UserError, match=r"model.flat_std: 6.0 exceeds texture_std = 5.0; lower it"):
        DistillModel(student(), teacher, (0, 9), "region", flat_std=6.0)


def test_built_from_options(teacher: str) -> None:
    options = {"type": "DistillModel", "teacher": teacher, "ks": [0, 1, 3], "loss": "mean_teacher", "transfer": False}
    model = build_model(options, student())
    assert (model.ks, model.loss) == ((0, 1, 3), "mean_teacher")
    with pytest.raises(
        UserError, match=r"DistillModel\.loss: 'mean': .*'multi_teacher', 'recharged', 'mean_teacher' or 'region'"
    ):
        build_model({**options, "loss": "mean"}, student())
    with pytest.raises(UserError, match=r"DistillModel\.teacher: missing"):
        build_model({"type": "DistillModel"}, student())
