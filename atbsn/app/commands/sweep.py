"""``atbsn sweep``: run a grid of trainings and measurements."""

from argparse import Namespace
from pathlib import Path

from filelock import FileLock, Timeout

from atbsn.engine.sweeps.file import read_sweep
from atbsn.engine.sweeps.launch import Launcher, LocalLauncher, SlurmLauncher
from atbsn.engine.sweeps.ledger import Ledger
from atbsn.engine.sweeps.points import expand
from atbsn.engine.sweeps.schedule import SweepScheduler
from atbsn.options.files import find_option_file
from atbsn.options.load import parse_yaml
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def main(arguments: Namespace) -> int:
    paths = [find_option_file(name) for name in arguments.opt]
    sweep = read_sweep(*paths)
    points = expand(sweep, paths[0])
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
            return SweepScheduler(points, Ledger(folder, points), launcher).run()
    except Timeout:
        raise UserError(f"{folder}: this sweep is running already; wait for it, or give it another name") from None


def _parameters(assignments: list[str]) -> dict[str, object]:
    pairs = [assignment.partition("=") for assignment in assignments]
    wrong = [key for key, separator, _ in pairs if not key or not separator]
    if wrong:
        raise UserError(f"--slurm {wrong[0]}: not of the form KEY=VALUE, such as timeout_min=720")
    return {key: parse_yaml(text, f"--slurm {key}") for key, _, text in pairs}
