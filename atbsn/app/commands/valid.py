"""``atbsn valid``: measure a method, with or without references."""

from argparse import Namespace

from atbsn.engine.build import build_measuring, build_sets, build_test_denoiser, results_folder
from atbsn.engine.evaluation.validation import validate_sets
from atbsn.options import load_options
from atbsn.utils import dist
from atbsn.utils.errors import UserError


def main(arguments: Namespace) -> None:
    overrides = arguments.set + ([f"val.k=[{', '.join(arguments.k)}]"] if arguments.k else [])
    options = load_options(arguments.opt, overrides)
    device = dist.start(arguments.launcher, options.num_gpu, options.dist_timeout)
    sets, source = build_sets(options, "val"), " + ".join(arguments.opt)
    if not sets:
        raise UserError(f"{source}: datasets: no entry begins with 'val'; add noisy pictures")
    if options.path.pretrain_network is None:
        raise UserError(f"{source}: path.pretrain_network: missing; name the weights to measure")
    denoiser = build_test_denoiser(options, device, "val")
    measuring, weights = build_measuring(options), options.path.pretrain_network
    validate_sets(denoiser, sets, measuring, options.val.k, results_folder(options), weights)
