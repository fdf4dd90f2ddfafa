"""Every option that is not a constructor argument: typed, described and ranged where it is declared.

The entries ``network``, ``model`` and ``datasets.*`` name a registered class; their other keys are checked
against the signature of that class (``atbsn.options.check``).
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from atbsn.utils.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Precision

S = TypeVar("S", bound="Scheduler")

Component = dict[str, Any]
"""``{"type": registered name, argument: value, ...}``"""


def _is_there(entry: object) -> object:
    if entry is None:
        raise ValueError("nothing of this name lies below that null could take out; leave it out, or mend the name")
    return entry


Entry = Annotated[Component, BeforeValidator(_is_there)]
"""A component under a name that the user gives it. ``load.merge`` takes it out where null is laid over it."""

Decay = Annotated[float, Field(ge=0, lt=1)]
"""How much of a running mean stays at each step."""


Share = Annotated[float, Field(gt=0, lt=1)]
"""A share of the iterations ``train.total_iter``."""


class Section(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, hide_input_in_errors=True)


class TrainLoader(Section):
    """How ``datasets.train`` is cut into batches; its other keys belong to the data set."""

    patch_size: PositiveInt
    """Side of the square crop, pixels."""
    use_flip: bool = True
    use_rot: bool = True
    """Rotate patches by multiples of 90 degrees; with ``use_flip``, all eight orientations of the square."""
    batch_size_per_gpu: Annotated[int, Field(gt=0, le=2**16)] = 8
    """Patches a process takes at once; the global batch is this x processes x train.accum_iter."""
    num_worker_per_gpu: Annotated[int, Field(ge=0, le=2**10)] = 4
    """Loader processes a training process; 0 loads in the training process itself. Changes no result."""


class Optim(Section):
    """What every optimizer has. Another one is a subclass that names a class of ``torch.optim``, and an entry of
    ``Train.optim``."""

    FUSED_ON: ClassVar[tuple[str, ...]] = ("cuda",)
    """Types of devices on which PyTorch has a fused form of it."""

    type: str
    lr: PositiveFloat

    def arguments(self, device: str) -> dict[str, Any]:
        """Keywords of the class of ``torch.optim`` for parameters on a device of this type."""
        return {**self.model_dump(exclude={"type"}), "fused": device in self.FUSED_ON or None}


class Adam(Optim):
    FUSED_ON: ClassVar[tuple[str, ...]] = ("cuda", "cpu")

    type: Literal["Adam", "AdamW"]
    lr: PositiveFloat
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0

    def arguments(self, device: str) -> dict[str, Any]:
        capturable = {"capturable": True} if device == "cuda" else {}  # as part of a CUDA graph; the sums are the same
        return {**super().arguments(device), **capturable}


class SGD(Optim):
    type: Literal["SGD"]
    lr: PositiveFloat
    momentum: Fraction = 0.0
    weight_decay: NonNegativeFloat = 0.0


class Scheduler(Section):
    """What every schedule of the learning rate has. Another one is a subclass with ``part``, and an entry of
    ``Train.scheduler``."""

    LENGTHS: ClassVar[tuple[str, ...]] = ()
    """Fields that are iterations or shares of the training, or lists of them; ``warmup_iter`` is one everywhere."""

    type: str
    warmup_iter: NonNegativeInt | Share = 0
    """Iterations, or their share of the training, over which the learning rate first rises, linearly from
    lr / warmup_iter, to what it would be without; the rest of the schedule stays where it is."""

    @abstractmethod
    def part(self, done: int, total_iter: int, lr: float) -> float:
        """The part of ``lr`` that is left after ``done`` of ``total_iter`` iterations, lengths being iterations."""

    def rate(self, done: int, total_iter: int, lr: float) -> float:
        """``part``, less what the warm-up takes off it."""
        warmup = min(1.0, (done + 1) / self.warmup_iter) if self.warmup_iter else 1.0
        return self.part(done, total_iter, lr) * warmup

    def with_lengths(self: S, change: Callable[[float], float]) -> S:
        """The same schedule with ``change`` applied to all of its lengths."""
        lengths = {name: getattr(self, name) for name in ("warmup_iter", *self.LENGTHS)}
        return self.model_copy(
            update={
                name: list(map(change, length)) if isinstance(length, list) else change(length)
                for name, length in lengths.items()
            }
        )


class CosineAnnealing(Scheduler):
    """The learning rate falls from lr to eta_min along half a cosine over total_iter, or what hold leaves of it."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("hold",)

    type: Literal["CosineAnnealing"]
    hold: NonNegativeInt | Share = 0
    """Iterations, or their share of the training, at lr before the cosine begins."""
    eta_min: NonNegativeFloat = 0.0

    def part(self, done: int, total_iter: int, lr: float) -> float:
        low, steps = self.eta_min / lr, max(1, total_iter - self.hold)
        return low + (1 - low) * (1 + math.cos(math.pi * min(max(0, done - self.hold), steps) / steps)) / 2


class Step(Scheduler):
    """lr x gamma every step_size iterations, or shares of the training."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("step_size",)

    type: Literal["Step"]
    step_size: PositiveInt | Share
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5

    def part(self, done: int, total_iter: int, lr: float) -> float:
        return self.gamma ** (done // self.step_size)


class MultiStep(Scheduler):
    """lr x gamma at each milestone: iterations, or shares of the training."""

    LENGTHS: ClassVar[tuple[str, ...]] = ("milestones",)

    type: Literal["MultiStep"]
    milestones: list[PositiveInt | Share]
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5

    def part(self, done: int, total_iter: int, lr: float) -> float:
        return self.gamma ** sum(milestone <= done for milestone in self.milestones)


class Constant(Scheduler):
    type: Literal["Constant"]

    def part(self, done: int, total_iter: int, lr: float) -> float:
        return 1.0


class Train(Section):
    total_iter: PositiveInt
    """Optimizer steps in all; exactly so many are made."""
    optim: Annotated[Adam | SGD, Field(discriminator="type")]
    scheduler: Annotated[CosineAnnealing | Step | MultiStep | Constant, Field(discriminator="type")] = CosineAnnealing(
        type="CosineAnnealing"
    )
    ema_decay: Decay = 0.0
    """Decay of the exponential moving average of the weights; 0 keeps none. It is validated and saved too."""
    clip_grad_norm: PositiveFloat | None = None
    accum_iter: PositiveInt = 1
    """Batches summed up to one optimizer step. Means of their losses are logged."""
    precision: Precision = "fp32"
    """Autocast type of the forward pass; weights stay float32."""
    channels_last: bool | Literal["auto"] = "auto"
    """Layout of weights and batches. auto is true but for dilated convolutions in fp32 on a CPU (C-BSN, AP-BSN and the
    like), whose backward pass is faster otherwise."""
    compile: bool | Literal["auto"] = False
    """torch.compile the losses; auto does so on a GPU (on a CPU it did not pay). With cuda_graph, the first iterations
    compile, and what was compiled is captured."""
    cuda_graph: bool | Literal["auto"] = "auto"
    """Capture a whole iteration and launch it as one CUDA graph; auto does so on a GPU, in one process, unless
    skip_nonfinite has to look at every iteration. The results are the same."""
    skip_nonfinite: NonNegativeInt = 0
    """How many steps in a row may be skipped because loss or gradient is not finite; 0 stops at the first."""

    def in_iterations(self) -> "Train":
        """The same with the lengths of its schedule in iterations, where they are shares of the training."""
        return self.model_copy(update={"scheduler": self.scheduler.with_lengths(self._iterations)})

    def _iterations(self, length: float) -> int:
        return length if isinstance(length, int) else max(1, round(length * self.total_iter))


class Val(Section):
    val_freq: PositiveInt | None = None
    """Iterations between validations during training; none without it."""
    save_img: NonNegativeInt = 0
    """How many panels (noisy | denoised | reference, or what was taken off) to save a data set."""
    limit: PositiveInt | None = None
    """How many pictures of each set to measure, spread over it; all without it."""
    metrics: dict[str, Entry] = {"psnr": {"type": "psnr"}, "ssim": {"type": "ssim"}}
    """Metrics for sets with references, under names of your own; type is the class's name in small letters. Each states
    its protocol. Sets without references are measured by what is taken off (docs/without_references.md)."""
    best_metric: str | None = None
    """The metric whose best value on the first set chooses models/net_best.pth; none is kept without it. Where that set
    has no references: estimated_psnr."""
    k: list[NonNegativeInt | Literal["mean"]] | None = None
    """Blind spots that validation compares, in one feature pass (mean: of the network's family); without it, the one
    that atbsn test takes."""
    tile: PositiveInt | Literal["auto", "none"] | None = None
    overlap: NonNegativeInt | Literal["auto"] | None = None
    precision: Precision | Literal["auto"] | None = None
    """How validation differs from ``test``, whose settings hold without these."""
    denoise: dict[str, Any] = {}
    """Laid over ``test.denoise`` for validation."""


class Test(Section):
    """How pictures are denoised, by atbsn test, atbsn valid, atbsn compare and the validation in training alike."""

    denoise: dict[str, Any] = {}
    """Keywords of the network's ``denoise``, such as k or strength, laid over what the weights were trained for."""
    k: NonNegativeInt | Literal["mean"] | None = None
    """Short for denoise.k, the blind spot to denoise with; mean is the mean over the network's family."""
    tile: PositiveInt | Literal["auto", "none"] = "auto"
    """Side of the tiles, pixels; none is the whole picture. auto: on a GPU the largest that its free memory holds, the
    whole picture if it can; elsewhere as many pixels as 512 x 512, or the training patch (256 if unknown) of a network
    in which every pixel depends on the whole tile, but at least four overlaps."""
    overlap: NonNegativeInt | Literal["auto"] = "auto"
    """Pixels two neighbouring tiles share and blend over; auto is what suits the network."""
    tile_batch: PositiveInt | Literal["auto"] = "auto"
    """Tiles denoised at once; auto is as many as the free memory of a GPU holds, and 1 elsewhere."""
    self_ensemble: bool = False
    """Average over the eight orientations: 8 times slower, usually a little better."""
    precision: Precision | Literal["auto"] = "auto"
    """auto is bf16 where the GPU or CPU has instructions for it, fp32 elsewhere."""
    compile: bool = False
    """torch.compile the network: takes a minute, pays for many pictures of one size or larger than a tile."""


class Paths(Section):
    root: str = "."
    """The folder in which experiments/, tb_logger/ and results/ are made."""
    pretrain_network: str | None = None
    """Weights to start from (train) or to use (valid, test)."""
    resume_state: str | None = None
    """A training state to continue from."""


class Logger(Section):
    print_freq: PositiveInt = 100
    save_checkpoint_freq: PositiveInt = 2000
    keep_last: PositiveInt | None = None
    """How many numbered checkpoints to keep; all without it. net_latest and net_best always stay."""
    use_tb_logger: bool = True
    """Write curves, panels and options for TensorBoard, to tb_logger/<name>."""
    wandb: Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")] | None = None
    """Send the same to this project at Weights & Biases, or ENTITY/PROJECT; needs the extra [wandb]. WANDB_MODE=offline
    keeps it on this machine."""


class Options(Section):
    """The options of a run, checked. See ``options/train/*.yml`` for examples."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]
    """Names the folder of the run; letters, digits, '_', '-' and '.', and '/' for a folder in a folder."""
    num_gpu: NonNegativeInt | Literal["auto"] = "auto"
    """GPUs a machine must have and use: auto takes what is there, 0 the CPU."""
    dist_timeout: PositiveInt | None = None
    """Seconds a process waits for the others of its run before it gives up; without it torch's 1800."""
    manual_seed: NonNegativeInt | None = None
    """Seed of everything random; drawn and logged without it."""
    data: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = None
    """What the data are called, such as sidd. {data} stands for it in the other options: in the name of a run, the path
    of a teacher."""
    on_data: dict[str, dict[str, Any]] | None = None
    """What a method does otherwise on data of a name: options that are laid over the method and under the file that
    brings the data. Reading the files does it: options.yml has what came of it."""
    plugins: list[str] = []
    """Python files, from the current folder, that register networks, data sets or methods of your own. They are run."""
    datasets: dict[Annotated[str, Field(pattern=r"^(train|val|test)(_\w+)?$")], Entry] = {}
    """'train' is trained on; names beginning with 'val' are validated on, with 'test' denoised by atbsn test."""
    network: Component | None = None
    """The architecture; without it, the one the weights of path.pretrain_network belong to."""
    model: Component | None = None
    """The training method; only training needs it."""
    path: Paths = Paths()
    train: Train | None = None
    val: Val = Val()
    test: Test = Test()
    logger: Logger = Logger()
    on_cpu: dict[str, Any] | None = None
    """Options that are laid over the others, but under --set, where there is no GPU: a training of minutes instead of
    weeks. Reading the file does it: options.yml has what came of it."""

    def loader(self) -> TrainLoader:
        """The loader part of ``datasets.train``."""
        known = TrainLoader.model_fields
        return TrainLoader(**{key: value for key, value in self.datasets["train"].items() if key in known})

    def dataset(self, name: str) -> Component:
        """The data set part of ``datasets.<name>``: its type and constructor arguments."""
        loader = TrainLoader.model_fields if name == "train" else ()
        return {key: value for key, value in self.datasets[name].items() if key not in loader}

    def inference(self, kind: Literal["val", "test"]) -> Test:
        """How pictures are denoised for atbsn test or for validation: ``test``, with what ``val`` says laid over it."""
        if kind == "test":
            return self.test
        changes: dict[str, Any] = {"denoise": {**self.test.denoise, **self.val.denoise}}
        if "k" in self.val.denoise:
            changes["k"] = None
        for name in ("tile", "overlap", "precision"):
            if getattr(self.val, name) is not None:
                changes[name] = getattr(self.val, name)
        return self.test.model_copy(update=changes)

    def dataset_names(self, kind: Literal["val", "test"]) -> list[str]:
        """The data sets for validation or for atbsn test, in the order of the file."""
        return [name for name in self.datasets if name.startswith(kind)]
