"""The cases of scripts/benchmark.py: every method and network, ours and written plainly."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import naive
import naive_baselines
import naive_directional
from atbsn.app.before_after import BeforeAfterObserver
from atbsn.archs import apbsn, atbsn, cbsn, lgbpn, students, tmbsn
from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.archs.photonet import PhotoNet
from atbsn.archs.plain_unet import UNet
from atbsn.archs.weights import load
from atbsn.engine.inference.denoiser import build_denoiser
from atbsn.engine.inference.picture import denoise
from atbsn.engine.inference.pipeline.plan import beside
from atbsn.engine.inference.pipeline.run import TaskResult, run
from atbsn.engine.precision import autocast
from atbsn.engine.training.checkpoint import Learner
from atbsn.engine.training.finite import FiniteGuard
from atbsn.engine.training.graph import WARM_UP
from atbsn.engine.training.loggers import LossMeter
from atbsn.engine.training.optimization import build_optimizer, build_scheduler
from atbsn.engine.training.setup import captures
from atbsn.engine.training.trainer import Schedule, Trainer
from atbsn.models.apbsn import APBSNModel
from atbsn.models.base import Model
from atbsn.models.blind2unblind import Blind2UnblindModel
from atbsn.models.bsn import BSNModel
from atbsn.models.cbsn import CBSNModel
from atbsn.models.distill import DistillModel
from atbsn.models.neighbor2neighbor import Neighbor2NeighborModel
from atbsn.models.renoise import RenoiseModel
from atbsn.models.sdap import SDAPModel
from atbsn.options.optimization import Adam
from atbsn.options.schema import Test, Train
from atbsn.utils.types import Precision
from measurement import Case, Run, Variant

KS = naive.KS
"""The published blind spots of the teachers."""
Plain = Callable[[], tuple[Any, Callable[[Any, Tensor], Tensor]]]
"""Builds a network that is written plainly, and the function of its loss on a noisy batch."""


@dataclass(frozen=True)
class Sizes:
    """The work in a run of the cases.

    Attributes:
        train_atbsn, distill, train_cbsn, shipped: (batch, side) of the patches of trainings.
        teachers, light, heavy, cbsn, refined, slow: (height, width) of pictures that are denoised, the larger the
            faster the network is.
    """

    train_atbsn: tuple[int, int]
    distill: tuple[int, int]
    train_cbsn: tuple[int, int]
    shipped: tuple[int, int]
    teachers: tuple[int, int]
    light: tuple[int, int]
    heavy: tuple[int, int]
    cbsn: tuple[int, int]
    refined: tuple[int, int]
    slow: tuple[int, int]


QUICK = Sizes(
    train_atbsn=(2, 128),
    distill=(2, 128),
    train_cbsn=(1, 120),
    shipped=(2, 128),
    teachers=(256, 256),
    light=(704, 928),
    heavy=(480, 480),
    cbsn=(256, 256),
    refined=(192, 192),
    slow=(120, 120),
)
"""Sizes for a CPU. Chosen by hand, so that all cases take minutes."""
FULL = Sizes(
    train_atbsn=(8, 256),
    distill=(8, 128),
    train_cbsn=(4, 120),
    shipped=(64, 128),
    teachers=(512, 512),
    light=(3000, 4000),
    heavy=(1376, 1376),
    cbsn=(1024, 1024),
    refined=(480, 480),
    slow=(480, 480),
)
"""The published batch and patch sizes, and pictures for a GPU, which are chosen by hand."""


@dataclass(frozen=True)
class Bench:
    """Builds the cases for one device.

    Attributes:
        device: the device that is measured.
        precision: number type of our variants.
        width: channels of the U-Nets and of TM-BSN; 48 is published.
        wide: channels of C-BSN, and of AP-BSN and its descendants; 128 is published.
        teacher: weight file of an ATBSN with this ``width``, for the distillation.
    """

    device: torch.device
    precision: Precision
    width: int
    wide: int
    teacher: Path

    def cases(self, sizes: Sizes, full: bool) -> list[Case]:
        """Build the cases, all of them if ``full``. Those that tell most in little time come first."""
        w, net = self.width, naive.ATBSN
        distill = f"distillation step, {len(KS)} teachers into C"
        cases = [
            self._inference("student C", sizes.light, students.StudentC(w), naive.StudentC(w)),
            self._shipped("real", sizes.light),
            self._shipped("fast", sizes.light),
            self._training("AT-BSN training step", sizes.train_atbsn, self.bsn_model,
                           lambda: (net(w), naive.bsn_loss)),
            self._training(distill, sizes.distill, self._distill_model,
                           lambda: (naive.StudentC(w), self._naive_distill())),
            self._training("C-BSN training step", sizes.train_cbsn, lambda: CBSNModel(cbsn.CBSN(self.wide)),
                           lambda: (naive.CBSN(self.wide), naive.cbsn_loss)),
            self._training("training step of the shipped weights", sizes.shipped,
                           lambda: RenoiseModel(PhotoNet()), None),
            self._folder("real", sizes.light),
            self._teachers("teacher family", sizes.teachers, atbsn.ATBSN(w), net(w)),
            self._teachers("TM-BSN family", sizes.slow, tmbsn.TMBSN(w), naive_directional.TMBSN(w)),
            self._inference("AT-BSN, k = 3", sizes.heavy, atbsn.ATBSN(w), net(w)),
            self._inference("student A", sizes.light, students.StudentA(), naive.StudentA()),
            self._inference("student B", sizes.heavy, students.StudentB(), naive.StudentB()),
            self._inference("C-BSN", sizes.cbsn, cbsn.CBSN(self.wide), naive.CBSN(self.wide)),
            self._inference("AP-BSN + R3", sizes.refined, apbsn.APBSN(self.wide), naive_baselines.APBSN(self.wide)),
        ]  # fmt: skip
        return cases + self._further(sizes) if full else cases

    def _further(self, sizes: Sizes) -> list[Case]:
        """Build the cases of the other baselines."""
        w, wide, plain = self.width, self.wide, naive_baselines
        visible, sampled = plain.UNet("b2u", w), lgbpn.LGBPN(wide)
        return [
            self._training("AP-BSN training step", sizes.train_cbsn, lambda: APBSNModel(apbsn.APBSN(wide)),
                           lambda: (plain.APBSN(wide), plain.apbsn_loss)),
            self._training("SDAP training step", sizes.train_cbsn, lambda: SDAPModel(apbsn.SDAP(wide)),
                           lambda: (plain.SDAP(wide), plain.sdap_loss)),
            self._training("N2N training step", sizes.train_atbsn, lambda: Neighbor2NeighborModel(UNet("n2n", w)),
                           lambda: (plain.UNet("n2n", w), plain.neighbor2neighbor_loss)),
            self._training("B2U training step", sizes.distill, lambda: Blind2UnblindModel(UNet("b2u", w)),
                           lambda: (plain.UNet("b2u", w), plain.blind2unblind_loss)),
            self._training("TM-BSN training step", sizes.distill, lambda: BSNModel(tmbsn.TMBSN(w), 5, 4),
                           lambda: (naive_directional.TMBSN(w), naive_directional.tmbsn_loss)),
            self._inference("SDAP (E)", sizes.slow, apbsn.SDAP(wide), plain.SDAP(wide), {"enhance": True}),
            self._inference("N2N", sizes.teachers, UNet("n2n", w), plain.UNet("n2n", w)),
            self._inference("B2U, beta = 20", sizes.teachers, UNet("b2u", w), visible, {"beta": 20.0},
                            visible.denoise_visible),
            self._inference("LG-BPN without R3", sizes.slow, lgbpn.LGBPN(wide), sampled, {"refine": 0},
                            partial(naive_directional.lgbpn_pass, sampled, strides=(3, 4), scales=(0.72, 0.8))),
        ]  # fmt: skip

    def bsn_model(self) -> Model:
        """Build AT-BSN's training."""
        return BSNModel(atbsn.ATBSN(self.width))

    def trainer(self, model: Model, batches: Iterable[dict[str, Tensor]]) -> tuple[Trainer, Run | None]:
        """Build the training loop over ``batches``, without its files, and the function that compiles it."""
        model.to(self.device).to(memory_format=torch.channels_last)
        train = Train(total_iter=10**6, optim=Adam(type="Adam", lr=1e-4), precision=self.precision)
        optimizer = build_optimizer(train, model.net)
        scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        guard = FiniteGuard(0, str, lambda: None, scaler)
        learner = Learner(model, None, optimizer, build_scheduler(train, optimizer), scaler, LossMeter())
        schedule = Schedule(train.total_iter, precision=train.precision, cuda_graph=captures(train, self.device))
        nothing: Any = None  # single steps need no files, no log and no validation
        trainer = Trainer(learner, iter(batches), guard, nothing, nothing, nothing, schedule, self.device)
        return trainer, self._compiler(model)

    def _compiler(self, module: nn.Module) -> Run | None:
        """Make the function that compiles ``module`` as train.py does; None on a CPU, where it does not pay."""
        return partial(module.compile, dynamic=False) if self.device.type == "cuda" else None

    def _training(
        self,
        name: str,
        size: tuple[int, int],
        model: Callable[[], Model],
        plain: Plain | None,
    ) -> Case:
        batch, side = size

        def ours() -> Variant:
            raw = {
                "noisy": torch.randint(256, (batch, side, side, 3), dtype=torch.uint8),
                "orientation": torch.arange(batch) % 8,
                "index": torch.arange(batch),
            }
            if self.device.type == "cuda":
                raw = {key: value.pin_memory() for key, value in raw.items()}
            trainer, compiler = self.trainer(model(), itertools.repeat(raw))
            numbers = itertools.count(1)
            step = partial(_step, trainer, numbers)
            return Variant(step, compiler, warm_up=WARM_UP + 1)

        def baseline(plain: Plain) -> Variant:
            net, loss_of = plain()
            optimizer = torch.optim.Adam(net.to(self.device).parameters(), lr=1e-4)
            noisy = torch.randint(256, (batch, 3, side, side)).float()

            def step() -> float:
                optimizer.zero_grad()
                loss = loss_of(net, noisy.to(self.device))
                loss.backward()
                optimizer.step()
                return loss.item()

            return Variant(step)

        name = f"{name}, {batch} x {side} x {side}"
        return Case(name, "it", 1, batch * side**2, ours, None if plain is None else partial(baseline, plain))

    def _shipped(self, name: str, size: tuple[int, int]) -> Case:
        """Compare ``atbsn.denoise`` with shipped weights, on uint8, with one float32 pass of their network."""
        image = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)

        def ours() -> Variant:
            net = load(name).to(self.device)
            return Variant(lambda: denoise(net, image, precision=self.precision), warm_up=3)

        def baseline() -> Variant:
            return Variant(partial(_denoise_plainly, load(name).to(self.device), image))

        pixels = size[0] * size[1]
        return Case(f"atbsn.denoise({name}), {size[0]} x {size[1]}", "MP", pixels / 1e6, pixels, ours, baseline)

    def _folder(self, name: str, size: tuple[int, int], pictures: int = 4) -> Case:
        """Compare ``atbsn denoise`` for a folder of JPEGs, without its start, with a loop over the files."""
        folder, clean = self.teacher.parent / "noisy", self.teacher.parent / "clean"

        def ours() -> Variant:
            _write_photographs(folder, size, pictures)
            net = load(name).to(self.device)
            denoiser = build_denoiser(net, self.device, Test(precision=self.precision), net.denoise_settings)

            def denoise_all() -> None:
                tasks = beside([str(folder)], str(clean), overwrite=True).tasks
                run(tasks, denoiser, _check, observer=BeforeAfterObserver())

            return Variant(denoise_all)

        def baseline() -> Variant:
            _write_photographs(folder, size, pictures)
            clean.mkdir(exist_ok=True)
            net = load(name).to(self.device)

            def denoise_each() -> None:
                for path in folder.iterdir():
                    image = np.asarray(cv2.imread(str(path)))[..., ::-1].copy()  # BGR to RGB
                    cv2.imwrite(str(clean / path.name), _denoise_plainly(net, image)[..., ::-1])

            return Variant(denoise_each)

        pixels = pictures * size[0] * size[1]
        name_of_case = f"folder of {pictures} JPEGs, {name}, {size[0]} x {size[1]}"
        return Case(name_of_case, "pictures", pictures, pixels, ours, baseline)

    def _distill_model(self) -> Model:
        return DistillModel(students.StudentC(self.width), str(self.teacher), KS)

    def _naive_distill(self) -> Callable[[nn.Module, Tensor], Tensor]:
        teacher = naive.ATBSN(self.width).to(self.device)
        return lambda net, noisy: naive.distill_loss(net, teacher, noisy)

    def _teachers(self, name: str, size: tuple[int, int], net: BlindSpotNetwork, plain: Any) -> Case:
        """Compare one pass for all holes of a network's family with a pass for each hole."""
        noisy = torch.rand(1, 3, *size, device=self.device) * 255

        def ours() -> Variant:
            family = _Family(net.to(self.device).to(memory_format=torch.channels_last))

            @torch.inference_mode()
            def run() -> Tensor:
                with autocast(self.precision, self.device):
                    return family(noisy)

            return Variant(run, self._compiler(family))

        def baseline() -> Variant:
            plain.to(self.device)
            return Variant(torch.no_grad()(lambda: plain.forward_teachers(noisy, net.family)))

        name = f"{name}, {len(net.family)} k, {size[0]} x {size[1]}"
        return Case(name, "MP", noisy[0, 0].numel() / 1e6, noisy[0, 0].numel(), ours, baseline)

    def _inference(
        self,
        name: str,
        size: tuple[int, int],
        net: Network,
        plain: nn.Module,
        settings: Mapping[str, Any] | None = None,
        plain_denoise: Callable[[Tensor], Tensor] | None = None,
    ) -> Case:
        noisy = torch.rand(1, 3, *size) * 255  # on the CPU, where pictures are read and written

        def ours() -> Variant:
            ours = net.eval().to(self.device).to(memory_format=torch.channels_last)
            denoiser = build_denoiser(ours, self.device, Test(precision=self.precision), settings or {})
            return Variant(lambda: denoiser(noisy).cpu(), self._compiler(net))

        def baseline() -> Variant:
            function: Any = plain_denoise or getattr(plain, "denoise", plain)
            plain.to(self.device)
            return Variant(torch.no_grad()(lambda: function(noisy.to(self.device)).cpu()))

        pixels = noisy[0, 0].numel()
        return Case(f"{name}, {size[0]} x {size[1]}", "MP", pixels / 1e6, pixels, ours, baseline)


def _step(trainer: Trainer, numbers: Iterator[int]) -> None:
    trainer.learner.meter.add(trainer.step(next(numbers)))


@torch.no_grad()
def _denoise_plainly(net: Network, image: np.ndarray) -> np.ndarray:
    """Denoise the whole picture, (H, W, 3) uint8, at once in float32."""
    noisy = torch.from_numpy(image).to(next(net.parameters()).device).permute(2, 0, 1)[None].float()
    return net(noisy)[0].clamp(0, 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _write_photographs(folder: Path, size: tuple[int, int], number: int) -> None:
    """Write JPEGs with soft shapes, and noise that makes the files as large as those of cameras."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for each in range(number):
        shapes = cv2.resize(rng.uniform(0, 255, size=(size[0] // 32, size[1] // 32, 3)), (size[1], size[0]))
        noisy = (shapes + rng.normal(0, 10, shapes.shape)).clip(0, 255)
        cv2.imwrite(str(folder / f"{each}.jpg"), noisy.astype(np.uint8))


def _check(result: TaskResult) -> None:
    """Raise a ``RuntimeError`` if a picture failed, so that the time of a folder is that of all pictures."""
    if result.reason is not None:
        raise RuntimeError(f"{result.task.label}: {result.reason}")


class _Family(nn.Module):
    """A module that computes all holes of a network's family, so that it can be compiled."""

    def __init__(self, net: BlindSpotNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, noisy: Tensor) -> Tensor:
        return self.net.forward_teachers(noisy, self.net.family)
