"""The arguments of the commands around trainings: sweep, report, prepare, noise, convert, export, options.

It imports nothing that takes long, so values that the engine knows are repeated here; a test compares them.
"""

import argparse
import os
from pathlib import Path

from atbsn.utils.arguments import positive

SWEEP = """\
  atbsn sweep -opt fig_s4.yml --jobs 2

Every point is an ordinary run in experiments/<sweep>/<point>. The same command again continues what was killed, repeats
nothing that is finished, and tries what failed once more. The file is described in docs/sweeps.md.
"""
SWEEP_STATUS = """\
exit status:
  0      every point is done
  2      wrong input, or points failed (the log names each with its reason); the others are done
  128+n  ended by signal n; the same command continues
"""
REPORT = """\
  atbsn report experiments/fig_s4 --figures heatmap k

Takes sweeps (experiments/<sweep>), runs (experiments/<name>; the table shows the options in which they differ, and
seeds are averaged) and results (results/<name>). Writes a table for each data set, and the figures as PNG and PDF.
"""
PREPARE = """\
  atbsn prepare sidd   datasets/SIDD/SIDD_Medium_Srgb datasets/SIDD/medium_512.lmdb
  atbsn prepare dnd    datasets/DND datasets/DND/images_512.lmdb
  atbsn prepare folder my_pictures datasets/mine          a folder of PNG files
  atbsn prepare check  sidd-validation datasets/SIDD/validation
  atbsn prepare speed  datasets/SIDD/medium_512.lmdb
  atbsn prepare free   clones datasets/free        free photographs, from clones of the repositories they are in

Give the same command again to continue an interrupted preparation. A target that exists is complete, and has been read
back and compared with what was written.
"""
NOISE = """\
  atbsn noise photographs                        estimated from the noisy pictures alone, by folder
  atbsn noise photographs --output noise.png     drawn: level against intensity, and correlation
  atbsn noise noisy --clean clean                measured on pairs of the same names
  atbsn noise noisy --clean clean --prior default train_real_strong.yml
  atbsn noise noisy --cameras mine.json          similar cameras, for RenoiseModel (model.cameras: mine.json)

The table is the fingerprint of the noise: levels in grey values, correlations with the next pixel and between colours,
and the distribution of its power over the spectrum. A prior is the distribution of cameras (CameraPrior) from which
RenoiseModel draws: "default", or the model.camera of an option file. With --clean its noise is drawn on those pictures.
--cameras draws 600 cameras a picture from the prior and keeps the 8 whose noise is nearest: half a minute a picture.
"""
CONVERT = """\
  atbsn convert model.ckpt cbsn.pth              TensorFlow checkpoint; needs tensorflow
  atbsn convert variables.npz cbsn.safetensors   its variables; '/' may be written '__'
  atbsn convert weights.pth weights.safetensors  and back

The network is found from the file. Wrappers of names ('module.', 'params', 'nbsn.') are removed. If a file has
averaged weights ('params_ema'), these are written. Metadata are kept; the network's type and arguments are added.
"""
EXPORT = """\
  atbsn export experiments/distill_atbsn/models/net_latest.pth student_c.onnx
  atbsn export real --to darktable               denoise-atbsn-real.dtmodel, for darktable's neural restore
  atbsn export mine.pth --to hub                 atbsn-mine/, for the Hugging Face hub: weights and a model card

ONNX takes networks that need one pass: students, PhotoNet, plain UNets, and C-BSN (with its statistics and padding).
Input 'noisy' and output 'denoised' are (B, 3, H, W), RGB, float32 in [0, 255], the output not clipped. The file is
compared with the network in ONNX Runtime on several sizes before it is written. Needs the extra [onnx]. The hub takes
any network. docs/integrations.md says how to use the files.
"""
OPTIONS = """\
  atbsn options list                          methods, data, trainings, sweeps
  atbsn options show apbsn.yml polyu.yml      all options that these files give together
  atbsn options copy train_folder.yml         a copy here, to change; files that it is based on are found by name
"""
FORMATS = ("md", "latex", "csv")
"""Formats of the tables of ``atbsn report``."""
FIGURES = ("heatmap", "k", "curves", "macs")
"""Figures of ``atbsn report``."""
SOURCES = {
    "sidd": "the unpacked SIDD_Medium_Srgb",
    "dnd": "the folder with DND's info.mat and images_srgb",
    "folder": "any folder of pictures, searched recursively",
}
"""Sources that ``atbsn prepare`` cuts into patches."""
CHECKED = ("sidd-medium", "sidd-validation", "sidd-benchmark", "dnd", "polyu", "cc15", "paired", "folder", "prepared")
"""Data sets that ``atbsn prepare check`` knows."""


def add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-opt", "--opt", nargs="+", action="extend", required=True, metavar="FILE.yml",
        help="sweep file, or its name under options/sweeps/; further ones replace values of it",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=positive(int), default=1, help="points at a time; the cores are shared out (default 1)"
    )
    parser.add_argument("--dry_run", action="store_true", help="check everything and list the points")
    parser.add_argument(
        "--slurm", nargs="*", metavar="KEY=VALUE",
        help="run on Slurm through submitit, with its parameters: slurm_partition=gpu timeout_min=720 gpus_per_node=1",
    )  # fmt: skip


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="RUN_OR_SWEEP", help="folders of runs, sweeps, results"
    )
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["md"], help="formats of tables (default: md)")
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=[], help="figures to draw (default: none)")
    parser.add_argument("--output", type=Path, help="folder (default: results/<name of the first folder>/report)")


def add_prepare(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    for name, source in SOURCES.items():
        action = actions.add_parser(name, help=f"cut {source}", allow_abbrev=False)
        action.add_argument("source", type=Path, help=source)
        action.add_argument("target", type=Path, help="an LMDB if the name ends with .lmdb, else a folder of PNG files")
        action.add_argument(
            "--size", type=positive(int), default=512, help="side of the patches, pixels (default: 512)"
        )
        action.add_argument(
            "--stride", type=positive(int), help="pixels between their corners (default: half of the size)"
        )
        action.add_argument("--whole", action="store_true", help="do not cut; raw crops read only their rows anyway")
        action.add_argument("--codec", choices=("raw", "png"), help="codec of the records (default: raw in an LMDB)")
        _add_workers(action)
    action = actions.add_parser("check", help="print OK, or what is missing", allow_abbrev=False)
    action.add_argument("kind", choices=CHECKED, help="what should be there")
    action.add_argument("dataroot", type=Path, help="as in an option file")
    _add_workers(action)
    action = actions.add_parser("speed", help="measure how fast patches can be read", allow_abbrev=False)
    action.add_argument("dataroot", type=Path, help="an LMDB, or a folder of pictures")
    action.add_argument("--patch_size", type=positive(int), default=256, help="side of a patch, pixels (default: 256)")

    action = actions.add_parser("free", help="free photographs to train on, and noisy ones", allow_abbrev=False)
    action.add_argument("source", type=Path, metavar="CLONES", help="folder with git clones of the repositories")
    action.add_argument("target", type=Path, help="folder to write clean/ and noisy/ into")


def add_noise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input", type=Path, nargs="?", help="a noisy picture, or a folder of them, searched recursively"
    )
    parser.add_argument("--clean", type=Path, metavar="FOLDER", help="their references, of the same names")
    parser.add_argument(
        "--prior", nargs="+", default=[], metavar="FILE.yml", help="cameras beside it: default, or option files"
    )
    parser.add_argument("--output", type=Path, help="figure of the estimated noise to write: .png, .pdf or .svg")
    parser.add_argument(
        "--cameras",
        type=Path,
        metavar="FILE.json",
        help="write the cameras of the prior whose noise is like that of the pictures",
    )
    parser.add_argument(
        "--most",
        type=positive(int),
        default=16,
        metavar="N",
        help="pictures that --cameras looks at, spread evenly; each takes about 20 s of a core (default: %(default)s)",
    )
    parser.add_argument(
        "--weights", help="weights that clean the pictures for --cameras without --clean (default: real)"
    )


def add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="TensorFlow checkpoint prefix, .npz, .pth or .safetensors")
    parser.add_argument("output", help=".pth or .safetensors")
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="network of a weight file that does not name it: StudentC, or '{type: StudentC, scale: 1}'",
    )


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", help="shipped weights by name, a weight file, or weights of the hub")
    parser.add_argument(
        "output", type=Path, nargs="?", help="what to write (default: named after the weights, in this folder)"
    )
    parser.add_argument(
        "--to", choices=("onnx", "darktable", "hub"), default="onnx", help="what it is for (default: %(default)s)"
    )
    parser.add_argument(
        "--half", action="store_true", help="store a graph's weights in 16 bits: half the file, and the same speed"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    action = actions.add_parser("list", help="list the option files", allow_abbrev=False)
    action.add_argument("word", nargs="?", default="", help="only files with this word in their names")
    action = actions.add_parser("show", help="show all options that files give together", allow_abbrev=False)
    action.add_argument("files", nargs="+", metavar="FILE.yml", help="option files, as for -opt")
    action.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="replace values")
    action.add_argument("--as_written", action="store_true", help="show the text of the files instead")
    action = actions.add_parser("copy", help="copy option files, to change them", allow_abbrev=False)
    action.add_argument("files", nargs="+", metavar="FILE.yml", help="option files, as for -opt")
    action.add_argument("--folder", default=".", help="folder of the copies (default: here)")


def _add_workers(action: argparse.ArgumentParser) -> None:
    workers = min(8, os.cpu_count() or 1)
    action.add_argument("--workers", type=positive(int), default=workers, help=f"threads (default: {workers})")
