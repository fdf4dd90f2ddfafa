"""How fast training and denoising are, against the same networks written plainly (scripts/naive.py).

``python scripts/benchmark.py`` measures every method and network in turns, ours, naive, ours, naive, ..., and writes
benchmark.md and benchmark.json to results/benchmark/. ``--full`` takes the published batch sizes, pictures of 12
megapixels, and also measures how long a training waits for its data.

Naive: float32, channels first, eager, half-plane convolutions by padding and cropping, a pass for every blind spot,
float32 from the CPU to the device at every step. Ours: as ``train.py`` and ``test.py`` run, in bfloat16 where the
device has it, on a GPU with ``train.compile`` and ``test.compile`` (docs/performance.md says why not on a CPU).
"""

import argparse
import itertools
import json
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from atbsn.archs import atbsn, build_arch, cbsn, students
from atbsn.archs.base import Network
from atbsn.archs.weights import save_weights
from atbsn.data.folder import NoisyFolder
from atbsn.data.loader import SampleNumbers, train_loader
from atbsn.data.patches import PatchDataset
from atbsn.data.store.prepare import Plan, prepare
from atbsn.engine.commands import positive, run_command
from atbsn.engine.inference.denoiser import build_denoiser
from atbsn.engine.precision import autocast, resolve_precision
from atbsn.engine.training.checkpoint import Learner
from atbsn.engine.training.finite import FiniteGuard
from atbsn.engine.training.loggers import LossMeter
from atbsn.engine.training.optimization import build_optimizer, build_scheduler
from atbsn.engine.training.trainer import Schedule, Trainer
from atbsn.models.base import Model
from atbsn.models.bsn import BSNModel
from atbsn.models.cbsn import CBSNModel
from atbsn.models.distill import DistillModel
from atbsn.options.schema import Adam, Test, Train
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_text
from atbsn.utils.log import logger, progress_bar
from atbsn.utils.types import Precision
from scripts import naive
from scripts.measurement import Case, Variant, in_turns, measure, peak_tflops, table

KS = naive.KS


@dataclass(frozen=True)
class Sizes:
    """How much work a run of each case is: patches as (batch, side), pictures as (height, width)."""

    train_atbsn: tuple[int, int]
    distill: tuple[int, int]
    train_cbsn: tuple[int, int]
    teachers: tuple[int, int]
    light: tuple[int, int]
    heavy: tuple[int, int]
    cbsn: tuple[int, int]


QUICK = Sizes((2, 128), (2, 128), (1, 120), (256, 256), (704, 928), (480, 480), (256, 256))
FULL = Sizes((8, 256), (8, 128), (4, 120), (512, 512), (3000, 4000), (1376, 1376), (1024, 1024))


@dataclass(frozen=True)
class Bench:
    """Builds the cases for one device.

    Attributes:
        precision: of our variants.
        width: channels of the UNets, 48 as published; ``cbsn_width`` of C-BSN, 128 as published.
        teacher: weight file of an ATBSN of this width, for the distillation.
    """

    device: torch.device
    precision: Precision
    width: int
    cbsn_width: int
    teacher: Path

    def cases(self, sizes: Sizes) -> list[Case]:
        """All of them, in the order of the table."""
        w, net = self.width, naive.ATBSN
        distill = f"distillation step, {len(KS)} teachers into C"
        return [
            self._training("AT-BSN training step", sizes.train_atbsn, self.bsn_model,
                           lambda: (net(w), naive.bsn_loss)),
            self._training(distill, sizes.distill, self._distill_model,
                           lambda: (naive.StudentC(w), self._naive_distill())),
            self._training("C-BSN training step", sizes.train_cbsn, lambda: CBSNModel(cbsn.CBSN(self.cbsn_width)),
                           lambda: (naive.CBSN(self.cbsn_width), naive.cbsn_loss)),
            self._teachers(sizes.teachers),
            self._inference("AT-BSN, k = 3", sizes.heavy, atbsn.ATBSN(w), net(w)),
            self._inference("student A", sizes.light, students.StudentA(), naive.StudentA()),
            self._inference("student B", sizes.heavy, students.StudentB(), naive.StudentB()),
            self._inference("student C", sizes.light, students.StudentC(w), naive.StudentC(w)),
            self._inference("C-BSN", sizes.cbsn, cbsn.CBSN(self.cbsn_width), naive.CBSN(self.cbsn_width)),
        ]  # fmt: skip

    def bsn_model(self) -> Model:
        return BSNModel(atbsn.ATBSN(self.width))

    def trainer(self, model: Model, batches: Iterable[dict[str, Tensor]]) -> tuple[Trainer, Callable[[], object]]:
        """The training loop over ``batches`` without its files, and what compiles it."""
        model.to(self.device).to(memory_format=torch.channels_last)
        train = Train(total_iter=10**6, optim=Adam(type="Adam", lr=1e-4), precision=self.precision)
        optimizer = build_optimizer(train, model.net)
        scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        guard = FiniteGuard(0, str, lambda: None, scaler)
        learner = Learner(model, None, optimizer, build_scheduler(train, optimizer), scaler, LossMeter())
        schedule = Schedule(train.total_iter, precision=train.precision)
        nothing: Any = None  # steps alone need no files, no log and no validation
        trainer = Trainer(learner, iter(batches), guard, nothing, nothing, nothing, schedule, self.device)
        return trainer, self._compiler(model)

    def _compiler(self, module: nn.Module) -> Callable[[], object]:
        """As test.py and train.py compile, but only where it pays."""
        return partial(module.compile, dynamic=False) if self.device.type == "cuda" else lambda: None

    def _training(
        self,
        name: str,
        size: tuple[int, int],
        model: Callable[[], Model],
        plain: Callable[[], tuple[Any, Callable[[Any, Tensor], Tensor]]],
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
            return Variant(lambda: trainer.learner.meter.add(trainer.step(next(numbers))), compiler)

        def baseline() -> Variant:
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

        return Case(f"{name}, {batch} x {side} x {side}", "it", 1, batch * side**2, ours, baseline)

    def _distill_model(self) -> Model:
        return DistillModel(students.StudentC(self.width), str(self.teacher), KS)

    def _naive_distill(self) -> Callable[[nn.Module, Tensor], Tensor]:
        teacher = naive.ATBSN(self.width).to(self.device)
        return lambda net, noisy: naive.distill_loss(net, teacher, noisy)

    def _teachers(self, size: tuple[int, int]) -> Case:
        noisy = torch.rand(1, 3, *size, device=self.device) * 255

        def ours() -> Variant:
            net = atbsn.ATBSN(self.width).to(self.device).to(memory_format=torch.channels_last)
            family = _Family(net)

            @torch.inference_mode()
            def run() -> Tensor:
                with autocast(self.precision, self.device):
                    return family(noisy)

            return Variant(run, self._compiler(family))

        def baseline() -> Variant:
            net = naive.ATBSN(self.width).to(self.device)
            return Variant(torch.no_grad()(lambda: net.forward_teachers(noisy, KS)))

        name = f"teacher family, {len(KS)} k, {size[0]} x {size[1]}"
        return Case(name, "MP", noisy[0, 0].numel() / 1e6, noisy[0, 0].numel(), ours, baseline)

    def _inference(self, name: str, size: tuple[int, int], net: Network, plain: nn.Module) -> Case:
        noisy = torch.rand(1, 3, *size) * 255  # on the CPU, where pictures come from and go to

        def ours() -> Variant:
            ours = net.eval().to(self.device).to(memory_format=torch.channels_last)
            denoiser = build_denoiser(ours, self.device, Test(precision=self.precision), {})
            return Variant(lambda: denoiser(noisy, name).cpu(), self._compiler(net))

        def baseline() -> Variant:
            function = getattr(plain.to(self.device), "denoise", plain)
            return Variant(torch.no_grad()(lambda: function(noisy.to(self.device)).cpu()))

        pixels = noisy[0, 0].numel()
        return Case(f"{name}, {size[0]} x {size[1]}", "MP", pixels / 1e6, pixels, ours, baseline)


class _Family(nn.Module):
    """``forward_teachers`` as a module, to be compiled."""

    def __init__(self, net: atbsn.ATBSN) -> None:
        super().__init__()
        self.net = net

    def forward(self, noisy: Tensor) -> Tensor:
        return self.net.forward_teachers(noisy, KS)


WAITING = "waiting for data"


def _steps(trainer: Trainer, number: int) -> None:
    for each in range(number):
        trainer.step(each)


def waiting(bench: Bench, size: tuple[int, int], folder: Path, steps: int) -> dict[str, float]:
    """The share of AT-BSN's training time that is spent waiting for data, from RAM and from an LMDB."""
    batch, side = size
    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for number in range(16):
        cv2.imwrite(str(folder / "pictures" / f"{number}.png"), rng.integers(256, size=(512, 512, 3), dtype=np.uint8))
    pictures = NoisyFolder(folder / "pictures")
    prepare(pictures, folder / "pictures.lmdb", Plan.make(pictures, None, None, "raw"), num_workers=2)
    sources = {"RAM": pictures, "LMDB": NoisyFolder(folder / "pictures.lmdb", "lmdb")}
    runs: dict[str, Callable[[], object]] = {}
    for name, images in {"": pictures, **sources}.items():
        numbers = SampleNumbers(batch_size=batch, total_iter=10**6)
        pin_memory = bench.device.type == "cuda"
        loader = train_loader(PatchDataset(images, side), numbers, num_workers=4, pin_memory=pin_memory)
        batches = iter(loader) if name else itertools.repeat(next(iter(loader)))
        trainer, compiler = bench.trainer(bench.bsn_model(), batches)
        compiler()
        trainer.step(1)
        runs[name] = partial(_steps, trainer, steps)
    seconds = in_turns(runs, bench.device, rounds=3)
    return {name: max(0.0, 1 - seconds[""] / seconds[name]) for name in sources}


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write benchmark.json and benchmark.md, and print the latter."""
    peaks = ", ".join(f"{peak:.3g} TFLOP/s in {name}" for name, peak in report["peak TFLOP/s"].items())
    text = (
        f"{report['machine']}, {report['threads']} threads, torch {report['torch']}; ours in {report['precision']}. "
        f"Matrix products reach {peaks}.\n\n{table(report['cases'])}"
    )
    for source, share in report[WAITING].items():
        text += f"\nOf AT-BSN's training time, {share:.1%} is spent waiting for data from {source}.\n"
    write_text(folder / "benchmark.json", json.dumps(report, indent=1) + "\n")
    write_text(folder / "benchmark.md", text)
    logger.info("%s (%s)\n\n%s", folder / "benchmark.md", folder / "benchmark.json", text)


def main() -> None:
    options = parse()
    device = torch.device(options.device)
    precision = resolve_precision(options.precision, device)
    autocast(precision, device)  # a precision the device lacks is said here
    torch.manual_seed(0)
    sizes = FULL if options.full else QUICK
    peaks = {name: peak_tflops(device, dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    with TemporaryDirectory() as scratch:
        bench = Bench(device, precision, options.width, options.cbsn_width, Path(scratch) / "teacher.pth")
        teacher = build_arch({"type": "ATBSN", "width": options.width})
        save_weights(bench.teacher, teacher.state_dict(), {"network": teacher.options})
        cases = [case for case in bench.cases(sizes) if any(word in case.name for word in options.only)]
        if not cases and not options.full:
            raise UserError(
                f"--only: {', '.join(options.only)}: no case is named so; try 'training', 'student' or 'C-BSN'"
            )
        rows = [measure(case, device, options.rounds, peaks, precision) for case in progress_bar(cases, "benchmark")]
        shares = {}
        if options.full and any(word in WAITING for word in options.only):
            shares = waiting(bench, sizes.train_atbsn, Path(scratch), steps=30 if device.type == "cuda" else 3)
    machine = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    )
    write(
        options.output,
        {
            "machine": machine, "threads": torch.get_num_threads(), "torch": torch.__version__, "precision": precision,
            "peak TFLOP/s": peaks, "cases": rows, WAITING: shares,
        },
    )  # fmt: skip


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    gpu = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cpu", "cuda") if gpu else ("cpu",), default="cuda" if gpu else "cpu")
    parser.add_argument("--full", action="store_true", help="published sizes; tens of minutes on a CPU")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORDS", help="cases whose name holds one of these")
    parser.add_argument("--rounds", type=positive(int), default=3, help="turns of each variant (default: 3)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of our variants")
    parser.add_argument("--width", type=positive(int), default=48, help="of AT-BSN and student C (default: 48)")
    parser.add_argument("--cbsn_width", type=positive(int), default=128, help="of C-BSN (default: 128)")
    parser.add_argument("--output", type=Path, default=Path("results/benchmark"), help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
