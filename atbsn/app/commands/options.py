"""``atbsn options``: list, show and copy the option files that come with the package."""

from argparse import Namespace
from pathlib import Path

from atbsn.engine.training.experiment import dump_options
from atbsn.options import load_options, option_files
from atbsn.options.files import find_option_file
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_text
from atbsn.utils.log import logger

_FOLDERS = {
    "method": "methods: lay data over them, as in -opt apbsn.yml sidd.yml",
    "data": "data, for any method",
    "train": "trainings of one file",
    "test": "to measure and to denoise with",
    "sweeps": "grids of trainings (atbsn sweep)",
    "base": "what trainings share",
}
"""Title of each folder of option files."""


def main(arguments: Namespace) -> None:
    {"list": _list, "show": _show, "copy": _copy}[arguments.action](arguments)


def _list(arguments: Namespace) -> None:
    """Log a line for each file: its name, and the first sentence of the comment at its beginning."""
    files = [path for path in option_files() if arguments.word in path.name]
    if not files:
        raise UserError(f"{arguments.word}: no option file has this in its name; leave it out to see all")
    width = max(len(path.name) for path in files)
    for folder, title in _FOLDERS.items():
        found = [path for path in files if path.parent.name == folder]
        if found:
            lines = (f"  {path.name:<{width}}  {_first_sentence(path)}" for path in found)
            logger.info("%s", "\n".join([f"{title}:", *lines, ""]))


def _show(arguments: Namespace) -> None:
    """Log all options that these files give together, as in the ``options.yml`` of a run; or the texts of the files."""
    if arguments.as_written:
        texts = [_text(find_option_file(name)).rstrip() for name in arguments.files]
        logger.info("%s", "\n---\n".join(texts))
        return
    logger.info("%s", dump_options(load_options(arguments.files, arguments.set, needs_network=False)).rstrip())


def _copy(arguments: Namespace) -> None:
    """Copy the files. Files that a copy is based on are found by their names from any folder."""
    folder = Path(arguments.folder)
    sources = {folder / Path(name).name: find_option_file(name) for name in arguments.files}
    there = [str(target) for target in sources if target.exists()]
    if there:
        raise UserError(f"{', '.join(there)}: there already; remove it, or name another --folder")
    texts = {target: _text(source) for target, source in sources.items()}
    for target, source in sources.items():
        write_text(target, texts[target])
        logger.info("%s: a copy of %s, to change", target, source)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(f"{path}: cannot be read as an option file ({reason}); name a .yml file") from None


def _first_sentence(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    head = " ".join(line[1:].strip() for line in lines[: next((n for n, x in enumerate(lines) if x[:1] != "#"), 0)])
    sentence, dot, _ = head.partition(". ")
    return sentence + "." if dot else head
