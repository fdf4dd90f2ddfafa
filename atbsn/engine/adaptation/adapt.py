"""Train weights on a user's own pictures within a given time, and keep the better of the old and the new weights."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from atbsn.archs.base import Network
from atbsn.archs.weights import load_with_metadata, save_weights
from atbsn.data.crops import PictureCrops, random_crops
from atbsn.engine.adaptation.cameras import Cameras, cameras_of, noise_differs
from atbsn.engine.adaptation.plan import (
    CLEANED_SIDE,
    CROP_SIDE,
    AdaptationPlan,
    length_options,
    make_plan,
    options_of,
    patch_side,
    seconds_to_denoise,
    seconds_to_fit,
    seconds_to_try,
)
from atbsn.engine.adaptation.scenes import cameras_of_noise, write_scenes
from atbsn.engine.evaluation.judgement import Fault, Judgement, judge
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.training.experiment import RunFolders
from atbsn.engine.training.interrupt import StopSignal
from atbsn.engine.training.pace import seconds_an_iteration
from atbsn.engine.training.setup import Training, build_trainer, build_training
from atbsn.models.renoise import RenoiseModel
from atbsn.noise import NoiseModel, estimate_any
from atbsn.pictures import to_tensor
from atbsn.utils.budget import TimeBudget
from atbsn.utils.errors import UserError
from atbsn.utils.log import quiet

OnStage = Callable[[float, str], None]
"""Called with the share of the training that is done, 0 to 1, and with the present stage in words."""

MIN_LEVEL = 0.8
"""Grey values: mean level of the noise below which pictures count as clean and nothing is learned. Rounding to whole
grey values alone has 0.29, and the free photographs that are trained on as clean ones have up to 0.6."""
_CHANNELS = 3
"""Channels of the pictures that ``RandomCamera`` takes: RGB."""
_MAX_LEVEL_CROPS = 32
"""Most crops over which the level of the noise is averaged. Chosen by hand: it takes well below a second."""
_STRONG = 5.0
"""Grey values: mean level of the noise above which it is estimated by what the weights take off. Chosen between the
levels of SIDD (8 to 20), where that is the better estimate, and those of PolyU (2 to 4), where it is not."""
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
        level: level of that noise, root mean square over the pictures, grey values.
        cameras: the cameras that took the pictures, and whether their noise is of one kind.
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
    on_progress: OnStage = lambda share, what: None,
    should_stop: Callable[[], bool] = lambda: False,
    metadata: dict[str, Any] | None = None,
    seed: int = 0,
) -> Adapted:
    """Train ``start`` on ``pictures`` with ``RenoiseModel``, and keep the better weights.

    ``start`` cleans crops of the pictures. The crops are reduced in size, which makes them sharper and removes noise
    that is left. Simulated cameras, whose noise is like the noise that ``start`` removed, take pictures of them, and
    ``start`` learns to remove that noise. Whether the training helped is judged without a clean picture (``judge``).
    Every stage has its share of the time (``AdaptationPlan``): with little time, fewer pictures are read and cleaned,
    fewer cameras are tried, and fewer crops are used for the noise estimate and the judgement.

    Args:
        pictures: noisy ones of one camera, files or folders, from one up.
        minutes: how long everything may take.
        on_progress: called with the share of the training that is done and with the present stage in words.
        start: an ordinary network. It is not changed, and everything is computed on its device.
        should_stop: called after every iteration and crop. If it returns true, the best weights so far are returned.
        metadata: the metadata of the weight file of ``start``, which are returned where ``start`` is the better one.
        seed: seed of everything that is drawn.

    Raises:
        UserError: no picture can be used; ``start`` has a blind spot or is not for three channels, which this training
            cannot adapt; or it removes nothing from the pictures.
    """
    RenoiseModel.check_network(type(start), {})
    if start.channels != _CHANNELS:
        raise UserError(f"{start.channels} channels: only networks for pictures of {_CHANNELS} can be adapted")
    budget = TimeBudget(60 * minutes, should_stop)
    start_net = copy.deepcopy(start).eval()
    device = next(start.parameters()).device
    denoiser = photo_denoiser(start_net)
    on_progress(0, "reading")
    plan = make_plan(60 * minutes, seconds_to_denoise(denoiser), seconds_to_fit(), seconds_to_try())
    kept = {"network": start.options, "denoise": start.denoise_settings} if metadata is None else metadata
    with quiet():
        patch, min_side = patch_side(pictures, start)
        paths = [str(path) for path in pictures]
        images = PictureCrops(paths, side=CLEANED_SIDE, min_side=min_side, seed=seed, seconds=plan.reading_seconds)
        on_progress(0, "estimating the noise")
        crops = random_crops(images, range(len(images)), plan.noise_crops, CROP_SIDE, seed)
        noise, is_strong = estimate_any(lambda crop: denoiser(crop[None])[0].float().cpu(), crops, _STRONG, seed)
        level = noise.mean_level(_crop(images, index) for index in _spread(len(images), _MAX_LEVEL_CROPS))
        unchanged = Adapted(start_net, kept, noise, level, cameras_of(images), None, 0)
        if level < MIN_LEVEL:
            return unchanged
        with tempfile.TemporaryDirectory(prefix="atbsn_") as scratch:
            weights, scenes, table = _prepared(
                images, start_net, denoiser, Path(scratch), plan, budget, on_progress, seed
            )
            options = options_of(start, weights, scenes, table, Path(scratch), is_strong, patch, seed)
            training = build_training(options, device, None)
            net, made, done = _learned(training, RunFolders(options), plan, budget, on_progress)
    made["noise"] = noise.to_dict()
    on_progress(1, "judging")
    judged = _spread(len(images), plan.judged_crops)
    shown = (_crop(images, index) for index in judged)
    before, after = judge([denoiser, photo_denoiser(net.to(device))], shown, noise, budget)
    owners = [images.owner(index) for index in judged][: len(before.residuals)]
    cameras = replace(unchanged.cameras, noise_differs=noise_differs(before.residuals, owners))
    result = replace(unchanged, cameras=cameras, judgements=(before, after), iterations=done)
    return replace(result, net=net, metadata=made) if result.helped else result


def _prepared(
    images: PictureCrops,
    start: Network,
    denoiser: Denoiser,
    scratch: Path,
    plan: AdaptationPlan,
    budget: TimeBudget,
    on_progress: OnStage,
    seed: int,
) -> tuple[Path, Path, Path]:
    """Write to ``scratch`` the weights that the training begins with, cleaned pictures, and cameras like theirs."""
    weights, scenes, table = scratch / "start.pth", scratch / "scenes", scratch / "cameras.json"
    save_weights(weights, start.state_dict(), {"network": start.options, "denoise": start.denoise_settings})
    on_progress(0, "cleaning the pictures")
    chosen = _spread(len(images), plan.cleaned_crops)
    cleaned = write_scenes(images, chosen, denoiser, scenes, budget.part(plan.cleaning_seconds))
    on_progress(0, "finding cameras with such noise")
    searched = [cleaned[place] for place in _spread(len(cleaned), plan.searched_crops)]
    time = budget.part(plan.searching_seconds)
    cameras_of_noise(images, searched, scenes, plan.tried, time, seed).write(table)
    return weights, scenes, table


def _learned(
    training: Training, folders: RunFolders, plan: AdaptationPlan, budget: TimeBudget, on_progress: OnStage
) -> tuple[Network, dict[str, Any], int]:
    """Train until only the time for judging is left.

    Returns:
        The network, the metadata of its weight file, and the number of iterations made.
    """
    learning = budget.part(budget.left - plan.judging_seconds)
    plain = training.train.model_copy(update={**length_options(_TIMED), "compile": False, "cuda_graph": False})
    each = seconds_an_iteration(replace(training, train=plain), folders, _TIMING_SHARE * learning.left)
    total = max(1, int(learning.left / each))
    training = replace(training, train=training.train.model_copy(update=length_options(total)))
    for folder in (folders.models, folders.states):
        folder.mkdir(parents=True)
    watch = _Watch(learning, total, on_progress)
    build_trainer(training, folders).train(watch)
    net, made = load_with_metadata(folders.models / "net_latest.pth")
    return net.eval(), made, watch.done


class _Watch(StopSignal):
    """Stops the training when its time is spent, and reports progress after every iteration."""

    def __init__(self, budget: TimeBudget, total: int, on_progress: OnStage) -> None:
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
