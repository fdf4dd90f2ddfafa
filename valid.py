"""Measure a method against references: ``python valid.py -opt options/test/test_atbsn.yml --k 0 1 3``."""

from atbsn.engine.build import build_measuring, build_sets, build_test_denoiser, results_folder
from atbsn.engine.commands import parse_arguments, run_command
from atbsn.engine.evaluation.validation import validate_sets
from atbsn.options import load_options
from atbsn.utils import dist
from atbsn.utils.errors import UserError


def main() -> None:
    parser = parse_arguments(__doc__)
    parser.add_argument(
        "--k", nargs="+", metavar="K", help="blind spots to compare, in one feature pass; mean is that of the family"
    )
    arguments = parser.parse_args()

    overrides = arguments.set + ([f"val.k=[{', '.join(arguments.k)}]"] if arguments.k else [])
    options = load_options(arguments.opt, overrides)
    device = dist.start(arguments.launcher, options.num_gpu, options.dist_timeout)
    sets = build_sets(options, "val")
    if not sets:
        raise UserError(f"{arguments.opt}: datasets: no entry begins with 'val'; add one with references")
    if options.path.pretrain_network is None:
        raise UserError(f"{arguments.opt}: path.pretrain_network: missing; name the weights to measure")
    denoiser = build_test_denoiser(options, device, "val")
    measuring, weights = build_measuring(options), options.path.pretrain_network
    validate_sets(denoiser, sets, measuring, options.val.k, results_folder(options), weights)


if __name__ == "__main__":
    run_command(main)
