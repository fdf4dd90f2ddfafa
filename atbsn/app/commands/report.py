"""``atbsn report``: make tables and figures of runs, sweeps and results."""

from argparse import Namespace
from pathlib import Path

from atbsn.engine.reports.collect import collect
from atbsn.engine.reports.figures import draw
from atbsn.engine.reports.tables import FORMAT_SUFFIXES, build_tables, format_table
from atbsn.utils.files import write_text
from atbsn.utils.log import logger


def main(arguments: Namespace) -> None:
    values = collect(arguments.folders)
    folder = arguments.output or Path("results") / arguments.folders[0].resolve().name / "report"
    for table in build_tables(values):
        logger.info("\n%s", format_table(table, "md"))
        for form in arguments.format:
            write_text(folder / f"table_{table.dataset}.{FORMAT_SUFFIXES[form]}", format_table(table, form))
    for kind in arguments.figures:
        for path in draw(kind, values, folder):
            logger.info("wrote %s", path)
    logger.info("tables and figures are in %s", folder)
