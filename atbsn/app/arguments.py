"""The arguments of every command. Imports nothing heavy."""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from atbsn import __version__
from atbsn.app import project_arguments as project
from atbsn.utils.arguments import EXIT_STATUS, add_shared, positive

WEIGHTS, RAW_WEIGHTS = "real", "raw"
"""Names of the shipped weights for pictures and for raw files."""

_ABOUT = """\
Take the noise out of photographs, and train denoisers on noisy pictures alone.

  atbsn denoise photo.jpg            writes photo_clean.jpg beside it
  atbsn adapt folder -o mine.pth     learns the noise of the camera that took these pictures, in minutes
  atbsn serve                        the same in the browser
"""
_PLAIN_STATUS = "exit status: 0 done; 2 something failed, and a message says what; 130 ended by Ctrl-C"

_WATCH = """\
  atbsn watch tethered -o clean --strength 0.8

A file is denoised when it is complete, and again when it changes; the next start continues where the last one ended.
"""
_WATCH_STATUS = "exit status: 0 ended by Ctrl-C or SIGTERM; 2 something failed, and a message says what"

_COMPARE = """\
  atbsn compare -opt test_quickstart.yml experiments/*/models/net_latest.pth --k 0 1 3 --nlm 5 10

writes comparison.csv, comparison.md and panels to results/<name>/<set>/.
"""


class Command(NamedTuple):
    """A command of ``atbsn``.

    Attributes:
        help: what it does, in one line.
        add: adds its arguments to a parser.
        plain: whether log lines have no time.
        about: more text for its own help, examples first.
        status: the meaning of its exit statuses, if it differs from that of other commands.
    """

    help: str
    add: Callable[[argparse.ArgumentParser], None]
    plain: bool = False
    about: str = ""
    status: str = ""


def atbsn_parser() -> argparse.ArgumentParser:
    """``atbsn COMMAND ...``; the command's name is ``arguments.command``."""
    parser = argparse.ArgumentParser("atbsn", description=_ABOUT, allow_abbrev=False, formatter_class=_AsWritten)
    parser.add_argument("--version", action="version", version=f"atbsn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        _fill(commands.add_parser(name, help=command.help, **_style(command)), command)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command, for a script that runs only this command."""
    return _fill(argparse.ArgumentParser(**_style(COMMANDS[name])), COMMANDS[name])


class _AsWritten(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions, and leaves enough room for the names of our arguments."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def _style(command: Command) -> dict[str, Any]:
    text = f"{command.help[0].upper()}{command.help[1:]}.\n\n{command.about}"
    epilog = command.status or (_PLAIN_STATUS if command.plain else EXIT_STATUS)
    return {"description": text, "epilog": epilog, "allow_abbrev": False, "formatter_class": _AsWritten}


def _fill(parser: argparse.ArgumentParser, command: Command) -> argparse.ArgumentParser:
    command.add(parser)
    return parser


def _add_denoise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="FILE_OR_FOLDER", help="pictures, and folders of pictures")
    parser.add_argument(
        "-o", "--output", metavar="OUT",
        help="folder for the clean pictures, or for a single picture its file (default: NAME_clean beside each)",
    )  # fmt: skip
    _add_how(parser)
    parser.add_argument(
        "--mask", metavar="FILE_OR_FOLDER",
        help="a picture of the same size: white is denoised, grey in part, black stays as it is; one for all, or a "
        "folder with one of each picture's name",
    )  # fmt: skip
    parser.add_argument("--compare", action="store_true", help="also write NAME_compare: before | after, at 1:1")
    parser.add_argument("--overwrite", action="store_true", help="replace clean pictures that are there already")


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="folder in which, or below which, pictures arrive")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="folder for the clean pictures (default: FOLDER_clean beside it)"
    )
    parser.add_argument(
        "--every", type=positive(float), default=2.0, metavar="SECONDS",
        help="time between two looks; a file that is the same at two looks is complete (default: 2)",
    )  # fmt: skip
    parser.add_argument("--only-new", action="store_true", help="leave out pictures that are there at the start")
    _add_how(parser)
    parser.add_argument("--overwrite", action="store_true", help="also replace files that this command did not make")


def _add_adapt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="FOLDER_OR_FILE", help="one or more noisy pictures of one camera")
    parser.add_argument(
        "--minutes", type=positive(float), default=5.0, help="how long to learn; Ctrl-C ends it earlier (default: 5)"
    )
    _add_weights(parser, "--start")
    parser.add_argument(
        "-o", "--output", default="adapted.pth", metavar="FILE.pth", help="the weights it makes (default: adapted.pth)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there already")
    _add_device(parser)


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", nargs="?", default=".", help="where experiments/ is (default: here)")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=7860, help="port (default: 7860)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    _add_weights(parser, "--weights")


def _add_train(parser: argparse.ArgumentParser) -> None:
    add_shared(parser)
    parser.add_argument(
        "--auto_resume", "--auto-resume", action="store_true", help="continue from the newest readable state"
    )
    parser.add_argument(
        "--minutes", type=positive(float), metavar="M",
        help="as many iterations as this machine makes in M minutes, instead of train.total_iter",
    )  # fmt: skip
    parser.add_argument("--debug", action="store_true", help="16 iterations, every one printed, as debug_<name>")


def _add_valid(parser: argparse.ArgumentParser) -> None:
    add_shared(parser)
    parser.add_argument(
        "--k", nargs="+", metavar="K", help="blind spots to compare, in one feature pass; mean: over the family"
    )


def _add_test(parser: argparse.ArgumentParser) -> None:
    add_shared(parser)
    parser.add_argument(
        "--input", nargs="+", metavar="FILE_OR_FOLDER",
        help="pictures or folders of pictures, instead of the sets of the option file",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="FOLDER",
        help="folder of the denoised pictures, with a folder for each of several sets; for one picture, its file "
        "(default: results/<name>)",
    )  # fmt: skip
    _add_reading(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="leave out pictures that are done already with these settings",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="do one of N parts, from 1/N to N/N (default: the part of this Slurm array task, or all)",
    )


def _add_compare(parser: argparse.ArgumentParser) -> None:
    add_shared(parser)
    parser.add_argument("weights", nargs="*", help="weight files; each knows its network")
    parser.add_argument(
        "--k",
        nargs="+",
        type=_hole,
        default=[],
        help="blind spots of blind-spot networks; mean: over their family",
    )
    parser.add_argument("--mean", action="store_true", help="also the mean over --k")
    parser.add_argument(
        "--nlm", nargs="+", type=positive(float), default=[], metavar="H", help="OpenCV non-local means"
    )
    parser.add_argument(
        "--bm3d",
        nargs="+",
        type=_level,
        default=[],
        metavar="SIGMA",
        help="CBM3D, noise levels; auto: estimated for each picture",
    )
    parser.add_argument("--output", help="folder of the results (default: results/<name>)")


def _add_how(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that ``app.denoising`` reads: weights and settings, how files are read, the device."""
    _add_weights(parser, "--weights", f"{WEIGHTS}; with --raw {RAW_WEIGHTS}")
    parser.add_argument(
        "--network", metavar="NAME",
        help="network of a weight file that does not name it: StudentC, or '{type: StudentC, scale: 1}'",
    )  # fmt: skip
    parser.add_argument(
        "--raw", action="store_true",
        help="denoise the mosaics of camera raw files, undeveloped, and write DNGs for any developer",
    )  # fmt: skip
    parser.add_argument(
        "--strength", type=float, metavar="S",
        help="how much of the noise is removed: 0 nothing, 1 what the network takes for noise, up to 2 more",
    )  # fmt: skip
    parser.add_argument("--luma", type=float, metavar="S", help="the strength for brightness (default: --strength)")
    parser.add_argument("--colour", type=float, metavar="S", help="the strength for colour (default: --strength)")
    parser.add_argument(
        "--detail", type=_word_or(float), metavar="D", help="how much fine detail is given back, 0 to 1, or auto"
    )
    parser.add_argument(
        "--hot-pixels", action="store_true", default=None, help="first replace single pixels that are far off"
    )
    parser.add_argument(
        "--banding", action="store_true", default=None, help="first remove the offsets of whole rows and columns"
    )
    parser.add_argument(
        "--enlarged", type=int, metavar="N", help="the picture was enlarged N times, with its noise, after it was taken"
    )
    parser.add_argument("--k", type=_word_or(int), metavar="K", help="blind spot, for networks that have one")
    parser.add_argument(
        "--margin", type=int, metavar="PIXELS",
        help="pixels reflected around the picture, for networks that have this setting",
    )  # fmt: skip
    parser.add_argument("--tile", type=_word_or(int), default="auto", metavar="T", help="side of the tiles, or none")
    _add_reading(parser)
    _add_device(parser)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--white", type=_word_or(float), default="auto", metavar="N",
        help="value of white in files of 16 bits that use fewer (4095, 16383) or of floating point, or auto",
    )  # fmt: skip
    parser.add_argument(
        "--page",
        type=int,
        metavar="N",
        help="number of the picture in a TIFF or HEIF of several (default: the primary one)",
    )


def _add_weights(parser: argparse.ArgumentParser, name: str, default: str = WEIGHTS) -> None:
    parser.add_argument(
        name,
        default=WEIGHTS if default == WEIGHTS else None,
        metavar="NAME",
        help=f"shipped weights by name, or a weight file (default: {default})",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="cpu, cuda, cuda:1 (default: the GPU if there is one)",
    )


def _hole(text: str) -> int | str:
    return text if text == "mean" else int(text)


def _level(text: str) -> float | str:
    return text if text == "auto" else positive(float)(text)


def _word_or(kind: type[int] | type[float]) -> Callable[[str], object]:
    """The type of an argument that is a number or a word such as ``auto``. The word is checked where it is used."""

    def number_or_word(text: str) -> object:
        try:
            return kind(text)
        except ValueError:
            if text.isalpha():
                return text
            raise

    return number_or_word


COMMANDS: dict[str, Command] = {
    "denoise": Command("take the noise out of pictures", _add_denoise, plain=True),
    "watch": Command(
        "denoise what arrives in a folder, until Ctrl-C", _add_watch, plain=True, about=_WATCH, status=_WATCH_STATUS
    ),
    "adapt": Command("learn the noise of your camera from your own pictures", _add_adapt, plain=True),
    "serve": Command("denoise in the browser, on this machine", _add_serve, plain=True),
    "models": Command("list the weights that are shipped and your own", _add_models, plain=True),
    "train": Command("train a method on noisy pictures, as an option file says", _add_train),
    "valid": Command("measure a method, against references where there are some", _add_valid),
    "test": Command("denoise sets of pictures, as an option file says", _add_test),
    "compare": Command(
        "compare weight files, non-local means and BM3D: quality, parameters, MACs a pixel, speed",
        _add_compare, about=_COMPARE,
    ),
    "sweep": Command(
        "train and measure a grid of options", project.add_sweep, about=project.SWEEP, status=project.SWEEP_STATUS
    ),
    "report": Command("make tables and figures of runs and sweeps", project.add_report, about=project.REPORT),
    "prepare": Command(
        "cut data sets into patches that are fast to read, and check data sets",
        project.add_prepare, about=project.PREPARE,
    ),
    "noise": Command(
        "measure the noise of pictures, and compare simulated cameras with it",
        project.add_noise, plain=True, about=project.NOISE,
    ),
    "convert": Command(
        "convert weight files: C-BSN's TensorFlow variables to ours, and .pth to .safetensors and back",
        project.add_convert, plain=True, about=project.CONVERT,
    ),
    "export": Command(
        "export a network for other programs: ONNX, darktable, the Hugging Face hub",
        project.add_export, plain=True, about=project.EXPORT,
    ),
    "options": Command(
        "list, show and copy the option files that come with the package",
        project.add_options, plain=True, about=project.OPTIONS,
    ),
}  # fmt: skip
