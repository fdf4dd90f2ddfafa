"""Compare weight files on one data set: quality, parameters, MACs a pixel and speed, beside what people use today."""

from argparse import Namespace
from pathlib import Path

from atbsn.archs.base import Network
from atbsn.engine.build import build_metrics, build_sets, results_folder
from atbsn.engine.evaluation.comparison import (
    bm3d_candidate,
    comparison_table,
    nlm_candidate,
    together,
    weight_candidate,
    write_comparison,
)
from atbsn.engine.evaluation.evaluator import columns_of, count_pictures, evaluate, panel_writer
from atbsn.engine.inference.denoiser import Denoiser, build_denoiser
from atbsn.options import load_options
from atbsn.utils import dist
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> None:
    if arguments.mean and len(arguments.k) < 2:
        raise UserError("--mean: the mean of several blind spots; name them with --k, such as --k 0 1 3")

    files, weights = _files_and_weights(arguments)
    options = load_options(files, arguments.set, needs_network=False)
    device = dist.start(arguments.launcher, options.num_gpu, options.dist_timeout)

    def denoiser_of(net: Network) -> Denoiser:
        inference = options.inference("val")
        return build_denoiser(net.to(device), device, inference, net.denoise_settings)

    metrics, sets = build_metrics(options), build_sets(options, "val")
    candidates = [weight_candidate(path, denoiser_of, arguments.k, arguments.mean) for path in weights]
    candidates += [nlm_candidate(strength) for strength in arguments.nlm]
    candidates += [bm3d_candidate(sigma) for sigma in arguments.bm3d]
    labels = [label for candidate in candidates for label in candidate.labels]
    if not candidates or not sets or len(set(labels)) < len(labels):
        raise UserError(
            f"{len(sets)} sets named val*, {len(labels)} methods ({', '.join(labels)}): at least one of each is "
            "needed, under different names; name option file, weights or strengths accordingly"
        )
    folder = Path(arguments.output) if arguments.output else results_folder(options)
    for name, images in sets.items():
        on_panel = panel_writer(folder / name / "comparison_panels", side=256, columns=4)
        rows = evaluate(
            images, together(candidates), metrics, f"compare on {name}", with_noisy=True,
            num_panels=options.val.save_img, on_panel=on_panel, limit=options.val.limit,
        )  # fmt: skip
        if dist.is_main():
            columns = columns_of(images, metrics)
            table = comparison_table(rows, candidates, columns)
            title = f"{name}: {type(images).__name__}, mean of {count_pictures(images, options.val.limit)}"
            logger.info("\n%s", write_comparison(folder / name, table, columns, title, candidates))


def _files_and_weights(arguments: Namespace) -> tuple[list[str], list[str]]:
    """Option files and weights; ``-opt FILE.yml WEIGHTS ...``, where the first are several, takes both."""
    files = [name for name in arguments.opt if name.lower().endswith((".yml", ".yaml"))]
    weights = [name for name in arguments.opt if name not in files]
    if not files:
        raise UserError(f"-opt {' '.join(weights)}: no option file, .yml, among them; name one with sets to measure on")
    return files, [*arguments.weights, *weights]
