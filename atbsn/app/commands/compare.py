"""``atbsn compare``: quality, parameters, MACs a pixel and speed of weight files, NLM and BM3D on the same pictures."""

from argparse import Namespace
from pathlib import Path

from atbsn.archs.base import Network
from atbsn.engine.build import build_metrics, build_sets, results_folder
from atbsn.engine.evaluation.checks import check_sets
from atbsn.engine.evaluation.comparison import (
    bm3d_candidate,
    measure_candidates,
    nlm_candidate,
    short_names,
    weight_candidate,
)
from atbsn.engine.evaluation.side_by_side import compare_on
from atbsn.engine.inference.denoiser import Denoiser, build_denoiser
from atbsn.options import load_options
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> None:
    if arguments.mean and len(arguments.k) < 2:
        raise UserError("--mean: the mean of several blind spots; name them with --k, such as --k 0 1 3")

    files, weights = _files_and_weights(arguments)
    options = load_options(files, arguments.set, needs_network=False, trains=False)
    device = dist.start(arguments.launcher, options.num_gpu, options.dist_timeout)

    def denoiser_of(net: Network) -> Denoiser:
        inference = options.inference("val")
        return build_denoiser(net.to(device), device, inference, net.denoise_settings)

    metrics, sets = build_metrics(options), build_sets(options, "val")
    candidates = [
        weight_candidate(path, name, denoiser_of, arguments.k, arguments.mean)
        for path, name in zip(weights, short_names(weights), strict=True)
    ]
    candidates += [nlm_candidate(strength) for strength in arguments.nlm]
    candidates += [bm3d_candidate(sigma) for sigma in arguments.bm3d]
    labels = [label for candidate in candidates for label in candidate.labels]
    if not candidates or not sets or len(set(labels)) < len(labels):
        raise UserError(
            f"{len(sets)} sets named val*, {len(labels)} methods ({', '.join(labels)}): at least one of each is "
            "needed, under different names; name option file, weights or strengths accordingly"
        )
    folder = Path(arguments.output) if arguments.output else results_folder(options)
    meters = check_sets(sets, metrics, options.val.limit)
    facts = measure_candidates(candidates) if dist.is_main() else {}
    for name, images in sets.items():
        text = compare_on(
            images,
            name,
            candidates,
            facts,
            metrics,
            folder / name,
            options.val.save_img,
            options.val.limit,
            meters[name],
        )
        if dist.is_main():
            logger.info("\n%s", text)


def _files_and_weights(arguments: Namespace) -> tuple[list[str], list[str]]:
    """The option files and the weights. ``-opt`` takes several values, so weights may stand among them."""
    files = [name for name in arguments.opt if name.lower().endswith((".yml", ".yaml"))]
    weights = [name for name in arguments.opt if name not in files]
    if not files:
        raise UserError(f"-opt {' '.join(weights)}: no option file, .yml, among them; name one with sets to measure on")
    return files, [*arguments.weights, *weights]
