"""Measure a method against references: ``python valid.py -opt options/test/test_atbsn.yml --k 0 1 3``."""

from pathlib import Path

from atbsn.engine.build import build_method, build_protocol, build_sets
from atbsn.engine.commands import parse_arguments, run_command
from atbsn.engine.validation import validate_sets
from atbsn.options import load_options
from atbsn.utils import dist
from atbsn.utils.errors import UserError


def main() -> None:
    parser = parse_arguments(__doc__)
    parser.add_argument("--k", nargs="+", metavar="K", help="blind spots to compare, in one feature pass")
    arguments = parser.parse_args()

    overrides = arguments.set + ([f"val.k=[{', '.join(arguments.k)}]"] if arguments.k else [])
    options = load_options(arguments.opt, overrides)
    device = dist.start(arguments.launcher, options.num_gpu)
    sets = build_sets(options, "val")
    if not sets:
        raise UserError(f"{arguments.opt}: datasets: no entry begins with 'val'; add one with references")
    if options.path.pretrain_network is None:
        raise UserError(f"{arguments.opt}: path.pretrain_network: missing; name the weights to measure")
    model, _ = build_method(options, device)
    folder = Path(options.path.root) / "results" / options.name
    validate_sets(model.eval(), sets, build_protocol(options, device, model.net), options.val.k, folder)


if __name__ == "__main__":
    run_command(main)
