"""Train and measure a grid of options: ``python scripts/sweep.py -opt fig_s4.yml --jobs 2``.

Every point is an ordinary run in experiments/<sweep>/<point>. The same command again continues what was killed, repeats
nothing that is finished, and tries what failed once more. The file is described in docs/sweeps.md.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from filelock import FileLock, Timeout

from atbsn.engine.commands import run_command
from atbsn.engine.sweeps.file import read_sweep
from atbsn.engine.sweeps.launch import Launcher, LocalLauncher, SlurmLauncher
from atbsn.engine.sweeps.ledger import Ledger
from atbsn.engine.sweeps.points import expand
from atbsn.engine.sweeps.schedule import Scheduler
from atbsn.options.load import find_option_file, parse_yaml
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

REPOSITORY = Path(__file__).resolve().parents[1]
EXIT_STATUS = """\
exit status:
  0      every point is done
  2      wrong input, or points failed (each with its reason and log); the others are done
  128+n  ended by signal n; the same command continues
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXIT_STATUS, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("-opt", required=True, metavar="FILE.yml", help="sweep file, or its name under options/sweeps/")
    parser.add_argument("--jobs", type=int, default=1, help="points at a time; the cores are shared out (default 1)")
    parser.add_argument("--dry_run", action="store_true", help="check everything and list the points")
    parser.add_argument(
        "--slurm", nargs="*", metavar="KEY=VALUE",
        help="run on Slurm through submitit, with its parameters: slurm_partition=gpu timeout_min=720 gpus_per_node=1",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: at least 1")

    path = find_option_file(arguments.opt, REPOSITORY)
    sweep = read_sweep(path)
    points = expand(sweep, path)
    folder = Path(points[0].options.path.root) / "experiments" / sweep.name
    if arguments.dry_run:
        ledger = Ledger(folder, points)
        for point in points:
            logger.info("%-8s %s%s", ledger[point]["status"], point.id, f"  (needs {point.needs})" * bool(point.needs))
        logger.info("%d points", len(points))
        return 0
    launcher: Launcher
    if arguments.slurm is None:
        launcher = LocalLauncher(arguments.jobs)
    else:
        launcher = SlurmLauncher(folder / "slurm", arguments.jobs, _parameters(arguments.slurm))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".sweep.lock", timeout=1):
            return Scheduler(points, Ledger(folder, points), launcher, REPOSITORY).run()
    except Timeout:
        raise UserError(f"{folder}: this sweep is running already; wait for it, or give it another name") from None


def _parameters(assignments: list[str]) -> dict[str, object]:
    pairs = [assignment.partition("=") for assignment in assignments]
    wrong = [key for key, separator, _ in pairs if not key or not separator]
    if wrong:
        raise UserError(f"--slurm {wrong[0]}: not of the form KEY=VALUE, such as timeout_min=720")
    return {key: parse_yaml(text, f"--slurm {key}") for key, _, text in pairs}


if __name__ == "__main__":
    run_command(main)
