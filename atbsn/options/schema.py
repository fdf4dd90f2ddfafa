"""Every option that is not a constructor argument, declared with its type, range and description.

The entries ``network``, ``model`` and ``datasets.*`` name a registered class. Their other keys are checked against the
signature of that class (``atbsn.options.check``).
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from atbsn.options.optimization import (
    SGD,
    Adam,
    ConstantSchedule,
    CosineSchedule,
    MultiStepSchedule,
    StepSchedule,
)
from atbsn.options.section import Decay, Section
from atbsn.utils.types import NonNegativeInt, PositiveFloat, PositiveInt, Precision

Component = dict[str, Any]
"""``{"type": registered name, argument: value, ...}``"""


def _is_there(entry: object) -> object:
    if entry is None:
        raise ValueError("nothing of this name lies below that null could take out; leave it out, or mend the name")
    return entry


Entry = Annotated[Component, BeforeValidator(_is_there)]
"""A component under a name that the user gives it. ``load.merge`` removes it if null is laid over it."""


class TrainLoader(Section):
    """How ``datasets.train`` is cut into batches; its other keys belong to the data set."""

    patch_size: PositiveInt
    """Side of the square crop, pixels."""
    use_flip: bool = True
    use_rot: bool = True
    """Rotate patches by multiples of 90 degrees; with ``use_flip``, all eight orientations of the square."""
    batch_size_per_gpu: Annotated[int, Field(gt=0, le=2**16)] = 8
    """Patches in a batch of one process; the global batch is this x processes x train.accum_iter."""
    num_worker_per_gpu: Annotated[int, Field(ge=0, le=2**10)] = 4
    """Loader processes of each training process; 0 loads in the training process itself. It changes no result."""


class Train(Section):
    """How the network is trained."""

    total_iter: PositiveInt
    """Number of optimizer steps of the whole training."""
    optim: Annotated[Adam | SGD, Field(discriminator="type")]
    scheduler: Annotated[
        CosineSchedule | StepSchedule | MultiStepSchedule | ConstantSchedule, Field(discriminator="type")
    ] = CosineSchedule(type="CosineAnnealing")
    ema_decay: Decay = 0.0
    """Decay of the exponential moving average of the weights, which is validated and saved too; 0 keeps no average."""
    clip_grad_norm: PositiveFloat | None = None
    """Largest norm of the gradient of all weights; larger ones are scaled down. Without it they are not."""
    accum_iter: PositiveInt = 1
    """Batches whose gradients are averaged for one optimizer step. The means of their losses are logged."""
    precision: Precision = "fp32"
    """Autocast type of the forward pass; weights stay float32."""
    channels_last: bool | Literal["auto"] = "auto"
    """Whether channels are last in memory, in weights and batches. auto is true, except for dilated convolutions in
    fp32 on a CPU (C-BSN, AP-BSN and the like), whose backward pass is faster without."""
    compile: bool | Literal["auto"] = False
    """Compile the losses by torch.compile. auto does so on a GPU; on a CPU it is not worth its time. With cuda_graph,
    the first iterations compile, and the compiled code is captured."""
    cuda_graph: bool | Literal["auto"] = "auto"
    """Capture a whole iteration and launch it as one CUDA graph. auto does so on a GPU, in one process, unless
    skip_nonfinite has to look at every iteration. The results are the same."""
    skip_nonfinite: NonNegativeInt = 0
    """How many steps in a row may be skipped because the loss or the gradient is not finite; 0 stops at the first."""

    def in_iterations(self) -> "Train":
        """Make the same options with the lengths of the schedule in iterations, not in shares of the training."""
        return self.model_copy(update={"scheduler": self.scheduler.with_lengths(self._iterations)})

    def _iterations(self, length: float) -> int:
        return length if isinstance(length, int) else max(1, round(length * self.total_iter))


class Val(Section):
    """How pictures are denoised and measured in training and by atbsn valid."""

    val_freq: PositiveInt | None = None
    """Iterations between two validations during training; without it there is no validation."""
    save_img: NonNegativeInt = 0
    """Number of panels (noisy | denoised | reference, or what was taken off) to save for each data set."""
    limit: PositiveInt | None = None
    """Number of pictures to measure of each set, spread over it; all without it."""
    metrics: dict[str, Entry] = {"psnr": {"type": "psnr"}, "ssim": {"type": "ssim"}}
    """Metrics for sets with references, under names of your own; type is the class's name in small letters. Each states
    its protocol. Sets without references are measured by what is taken off (docs/without_references.md)."""
    best_metric: str | None = None
    """The metric whose best value on the first set chooses models/net_best.pth; without it no such file is kept. For a
    set without references: estimated_psnr."""
    k: list[NonNegativeInt | Literal["mean"]] | None = None
    """Blind spots that validation compares, in one feature pass; mean is the mean over the network's family. Without
    it, the blind spot that atbsn test uses."""
    tile: PositiveInt | Literal["auto", "none"] | None = None
    """As ``test.tile``, if it is to be another one for validation."""
    overlap: NonNegativeInt | Literal["auto"] | None = None
    """As ``test.overlap``, if it is to be another one for validation."""
    precision: Precision | Literal["auto"] | None = None
    """As ``test.precision``, if it is to be another one for validation."""
    denoise: dict[str, Any] = {}
    """Settings that are laid over ``test.denoise`` for validation."""


class Test(Section):
    """How pictures are denoised by atbsn test, atbsn valid, atbsn compare and the validation in training."""

    denoise: dict[str, Any] = {}
    """Keywords of the network's ``denoise``, such as k or strength, laid over those that the weights were trained
    for."""
    k: NonNegativeInt | Literal["mean"] | None = None
    """The same as denoise.k, the blind spot to denoise with; mean is the mean over the network's family."""
    tile: PositiveInt | Literal["auto", "none"] = "auto"
    """Side of the tiles, pixels; none is the whole picture. auto: on a GPU the largest tile that its free memory holds,
    or the whole picture if that fits. On a CPU as many pixels as 512 x 512; for a network in which every pixel depends
    on the whole tile, the size of the training patch (256 if it is not known). It is at least four overlaps."""
    overlap: NonNegativeInt | Literal["auto"] = "auto"
    """Pixels that two neighbouring tiles share and are blended over; auto is what suits the network."""
    tile_batch: PositiveInt | Literal["auto"] = "auto"
    """Tiles that are denoised at once; auto is as many as the free memory of a GPU holds, and 1 on a CPU."""
    self_ensemble: bool = False
    """Average over the eight orientations of the picture: 8 times slower, usually a little better."""
    precision: Precision | Literal["auto"] = "auto"
    """Number type that the network computes with. auto is bf16 if the GPU or CPU has instructions for it, else fp32."""
    compile: bool = False
    """Compile the network by torch.compile. That takes a minute and is worth it for many pictures of one size, or for
    pictures that are larger than a tile."""


class Paths(Section):
    """Where weights and states are read from, and results are written to."""

    root: str = "."
    """Folder in which experiments/, tb_logger/ and results/ are made."""
    pretrain_network: str | None = None
    """Weights to start from (train) or to use (valid, test)."""
    resume_state: str | None = None
    """A training state to continue from."""


class Logger(Section):
    """What a training writes, and how often, in iterations."""

    print_freq: PositiveInt = 100
    save_checkpoint_freq: PositiveInt = 2000
    keep_last: PositiveInt | None = None
    """Number of numbered checkpoints to keep; all without it. net_latest and net_best always stay."""
    use_tb_logger: bool = True
    """Write curves, panels and options for TensorBoard, to tb_logger/<name>."""
    wandb: Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")] | None = None
    """Send the same to this project, or ENTITY/PROJECT, at Weights & Biases; needs the extra [wandb].
    WANDB_MODE=offline keeps it on this machine."""


class Options(Section):
    """The options of a run, checked. See ``options/train/*.yml`` for examples."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]
    """Name of the run and of its folder: letters, digits, '_', '-' and '.', and '/' for a folder in a folder."""
    num_gpu: NonNegativeInt | Literal["auto"] = "auto"
    """Number of GPUs that a machine must have and use; auto uses all there are, 0 the CPU."""
    dist_timeout: PositiveInt | None = None
    """Seconds that a process waits for the others of its run before it gives up; without it torch's 1800."""
    manual_seed: NonNegativeInt | None = None
    """Seed of everything random; without it one is drawn and logged."""
    data: Annotated[str, Field(pattern=r"^\w[\w.-]*$")] | None = None
    """Name of the data, such as sidd. {data} stands for it in other options, such as the name of a run or the path of a
    teacher."""
    on_data: dict[str, dict[str, Any]] | None = None
    """Other options of a method for data with a certain name. They are laid over the method, and the file that brings
    the data is laid over them. This is done when the files are read; options.yml has the result."""
    plugins: list[str] = []
    """Python files, relative to the current folder, that register your own networks, data sets or methods. They are
    run."""
    datasets: dict[Annotated[str, Field(pattern=r"^(train|val|test)(_\w+)?$")], Entry] = {}
    """Data sets. 'train' is for training, names that begin with 'val' are for validation, and those with 'test' are
    denoised by atbsn test."""
    network: Component | None = None
    """The architecture; without it, the one that the weights of path.pretrain_network belong to."""
    model: Component | None = None
    """The training method; only training needs it."""
    path: Paths = Paths()
    train: Train | None = None
    val: Val = Val()
    test: Test = Test()
    logger: Logger = Logger()
    on_cpu: dict[str, Any] | None = None
    """Options that are laid over the others, but under --set, if there is no GPU, for a training of minutes instead of
    weeks. This is done when the files are read; options.yml has the result."""

    def loader(self) -> TrainLoader:
        """The keys of ``datasets.train`` that belong to the loader."""
        known = TrainLoader.model_fields
        return TrainLoader(**{key: value for key, value in self.datasets["train"].items() if key in known})

    def dataset(self, name: str) -> Component:
        """The keys of ``datasets.<name>`` that belong to the data set: its type and its constructor arguments."""
        loader = TrainLoader.model_fields if name == "train" else ()
        return {key: value for key, value in self.datasets[name].items() if key not in loader}

    def inference(self, kind: Literal["val", "test"]) -> Test:
        """How pictures are denoised for atbsn test or for validation: ``test``, with ``val`` laid over it."""
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
