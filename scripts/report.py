"""Tables and figures of runs and sweeps: ``python scripts/report.py experiments/fig_s4 --figures heatmap k``.

Takes sweeps (experiments/<sweep>), runs (experiments/<name>; told apart by the options in which they differ, seeds
are averaged) and results (results/<name>). Writes a table for each data set, and the figures as PNG and PDF.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from atbsn.engine.commands import run_command
from atbsn.engine.reports.collect import collect
from atbsn.engine.reports.figures import KINDS, draw
from atbsn.engine.reports.tables import SUFFIXES, build_tables, format_table
from atbsn.utils.files import write_text
from atbsn.utils.log import logger


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="RUN_OR_SWEEP", help="folders of runs, sweeps, results"
    )
    parser.add_argument("--format", nargs="+", choices=SUFFIXES, default=["md"], help="of the tables (default: md)")
    parser.add_argument("--figures", nargs="+", choices=KINDS, default=[], help="figures to draw; none without it")
    parser.add_argument("--output", type=Path, help="folder (default: results/<name of the first folder>/report)")
    arguments = parser.parse_args()

    values = collect(arguments.folders)
    folder = arguments.output or Path("results") / arguments.folders[0].resolve().name / "report"
    for table in build_tables(values):
        logger.info("\n%s", format_table(table, "md"))
        for form in arguments.format:
            write_text(folder / f"table_{table.dataset}.{SUFFIXES[form]}", format_table(table, form))
    for kind in arguments.figures:
        for path in draw(kind, values, folder):
            logger.info("wrote %s", path)
    logger.info("tables and figures are in %s", folder)


if __name__ == "__main__":
    run_command(main)
