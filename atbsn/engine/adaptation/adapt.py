"""Learning the noise of one's own pictures within a given time, and keeping the better weights."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from atbsn.archs.base import Network
from atbsn.archs.weights import load_with_metadata, save_weights
from atbsn.data.crops import PictureCrops
from atbsn.engine.adaptation.cameras import Cameras, cameras_of, noise_differs
from atbsn.engine.adaptation.plan import (
    CROP_SIDE,
    AdaptationPlan,
    make_plan,
    options_of,
    seconds_to_denoise,
    seconds_to_fit,
    steps,
)
from atbsn.engine.evaluation.judgement import Fault, Judgement, judge
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.training.experiment import RunFolders
from atbsn.engine.training.interrupt import StopSignal
from atbsn.engine.training.pace import seconds_an_iteration
from atbsn.engine.training.setup import Training, build_trainer, build_training
from atbsn.models.recorrupt import RecorruptModel
from atbsn.noise import NoiseModel
from atbsn.pictures import to_tensor
from atbsn.utils.budget import TimeBudget
from atbsn.utils.log import quiet

OnProgress = Callable[[float, str], None]
"""A function that is called with the share of the learning that is done, 0 to 1, and with what is being done."""
Stage = Literal["reading", "estimating the noise", "learning", "judging"]

MIN_LEVEL = 0.8
"""Grey values: mean level of the noise below which pictures count as clean and nothing is learned. Rounding to whole
grey values alone has 0.29, and the free photographs that are trained on as clean ones have up to 0.6."""
_MAX_LEVEL_CROPS = 32
"""Most crops over which the level of the noise is averaged. Chosen by hand: it takes well below a second."""
_TIMED = 4
"""Most iterations that are made to know what one takes, the first of which is not timed. Chosen by hand: one may take
seconds. They are made without what takes long to set up, so they take rather longer than those of the training."""
_TIMING_SHARE = 0.01
"""Share of the time for learning after which no further iteration is timed. Chosen by hand."""


@dataclass(frozen=True)
class Adapted:
    """The better of the weights before and after.

    Attributes:
        net: in evaluation mode.
        metadata: for its weight file.
        noise: of the pictures, as it was estimated.
        level: of that noise, root mean square over the pictures, grey values.
        cameras: that took the pictures, and whether their noise is of one kind.
        judgements: of the weights before and after; None: the pictures are clean, so nothing was learned.
        iterations: number of iterations of the training; 0 where nothing was learned.
    """

    net: Network
    metadata: dict[str, Any]
    noise: NoiseModel
    level: float
    cameras: Cameras
    judgements: tuple[Judgement, Judgement] | None
    iterations: int

    @property
    def fault(self) -> Fault | Literal["clean"] | None:
        """Why the weights before are kept; None if the adapted weights replace them."""
        if self.judgements is None:
            return "clean"
        before, after = self.judgements
        return after.fault(before)

    @property
    def helped(self) -> bool:
        """Whether the adapted weights replace those before."""
        return self.fault is None


def adapt(
    pictures: Sequence[str | Path],
    minutes: float,
    start: Network,
    on_progress: OnProgress = lambda share, what: None,
    should_stop: Callable[[], bool] = lambda: False,
    metadata: dict[str, Any] | None = None,
    seed: int = 0,
) -> Adapted:
    """Train ``start`` on ``pictures`` with ``RecorruptModel``, and keep the better weights.

    Weak noise is learned by recorruption. Where the noise is strong and ``start`` takes off most of it, ``start`` is
    the teacher. Whether the training helped is judged without a clean picture (``judge``). Every stage has its share
    of the time (``AdaptationPlan``): with little time, fewer pictures are read, and fewer crops are estimated from and
    judged.

    Args:
        pictures: noisy ones of one camera, files or folders, from one up.
        minutes: how long everything may take.
        on_progress: called with the share of the learning that is done and with what is being done.
        start: an ordinary network. It is not changed, and everything is computed on its device.
        should_stop: called after every iteration and crop. If it returns true, the best weights so far are returned.
        metadata: the metadata of the weight file of ``start``, which are returned where ``start`` is the better one.
        seed: seed of everything that is drawn.

    Raises:
        UserError: no picture can be used, or ``start`` has a blind spot, which this training cannot adapt.
    """
    budget = TimeBudget(60 * minutes, should_stop)
    start_net = copy.deepcopy(start).eval()
    device = next(start.parameters()).device
    on_progress(0, "reading")
    plan = make_plan(60 * minutes, seconds_to_denoise(photo_denoiser(start_net)), seconds_to_fit())
    kept = {"network": start.options, "denoise": start.denoise_settings} if metadata is None else metadata
    with tempfile.TemporaryDirectory(prefix="atbsn_") as scratch, quiet():
        weights = Path(scratch, "start.pth")
        save_weights(weights, start.state_dict(), {"network": start.options, "denoise": start.denoise_settings})
        options = options_of(pictures, start, weights, scratch, device, plan, seed)
        on_progress(0, "estimating the noise")
        training = build_training(options, device, None)
        model, images = training.model, training.patches.images
        assert isinstance(model, RecorruptModel) and isinstance(images, PictureCrops)
        noise = model.noise
        level = noise.mean_level(_crop(images, index) for index in _spread(len(images), _MAX_LEVEL_CROPS))
        unchanged = Adapted(start_net, kept, noise, level, cameras_of(images), None, 0)
        if level < MIN_LEVEL:
            return unchanged
        net, made, done = _learned(training, RunFolders(options), plan, budget, on_progress)
    on_progress(1, "judging")
    judged = _spread(len(images), plan.judged_crops)
    crops = (_crop(images, index) for index in judged)
    before, after = judge([photo_denoiser(start_net), photo_denoiser(net.to(device))], crops, noise, budget)
    owners = [images.owner(index) for index in judged][: len(before.residuals)]
    cameras = replace(unchanged.cameras, noise_differs=noise_differs(before.residuals, owners))
    result = replace(unchanged, cameras=cameras, judgements=(before, after), iterations=done)
    return replace(result, net=net, metadata=made) if result.helped else result


def _learned(
    training: Training, folders: RunFolders, plan: AdaptationPlan, budget: TimeBudget, on_progress: OnProgress
) -> tuple[Network, dict[str, Any], int]:
    """Train until only the time for judging is left.

    Returns:
        The network, the metadata of its weight file, and the number of iterations made.
    """
    assert isinstance(training.model, RecorruptModel)
    learning = budget.part(budget.left - plan.judging_seconds)
    plain = training.train.model_copy(update={**steps(_TIMED), "compile": False, "cuda_graph": False})
    each = seconds_an_iteration(replace(training, train=plain), folders, _TIMING_SHARE * learning.left)
    total = max(1, int(learning.left / each))
    training = replace(training, train=training.train.model_copy(update=steps(total)))
    for folder in (folders.models, folders.states):
        folder.mkdir(parents=True)
    watch = _Watch(learning, total, on_progress)
    build_trainer(training, folders).train(watch)
    net, made = load_with_metadata(folders.models / "net_latest.pth")
    return net.eval(), made, watch.done


class _Watch(StopSignal):
    """Stops the training when its time is spent, and reports progress after every iteration."""

    def __init__(self, budget: TimeBudget, total: int, on_progress: OnProgress) -> None:
        super().__init__()
        self.budget, self.total, self.on_progress = budget, total, on_progress
        self.done = 0

    def requested(self) -> bool:
        self.done += 1
        self.on_progress(self.done / self.total, f"learning, {self.done} of {self.total}")
        return self.budget.is_spent


def _crop(images: PictureCrops, index: int) -> Tensor:
    """Crop ``index`` as a (3, CROP_SIDE, CROP_SIDE) tensor in [0, 255]."""
    return to_tensor(images.crop(index, 0, 0, CROP_SIDE))


def _spread(length: int, count: int) -> range:
    """At most ``count`` indices below ``length``, at equal distances."""
    return range(0, length, -(-length // count))
