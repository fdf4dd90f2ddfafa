"""Free photographs, clean and noisy ones, from clones of the public repositories that hold them."""

import csv
import io
import subprocess
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageCms

from atbsn.pictures import Picture, read_picture, write_picture
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_atomically
from atbsn.utils.log import progress_bar

Kind = Literal["clean", "noisy"]
_MAX_CLEAN = 0.6
"""Grey values: noise level up to which a picture is clean enough at its size. Chosen by hand; rounding to 8 bits alone
is 0.3."""
_MAX_NEARLY_CLEAN = 1.0
"""Grey values: noise level up to which a picture is reduced by ``_SLIGHTLY``. Chosen by hand."""
_SLIGHTLY, _MORE = 1.5, 2.0
"""Factors by which pictures are reduced further: those up to ``_MAX_NEARLY_CLEAN``, and those with more noise or whose
noise could not be measured. Chosen by hand."""


class FreePhotograph(NamedTuple):
    """A line of a list: the file to write, and where it comes from.

    Attributes:
        file: name of the file to write, without suffix.
        repository: ``owner/name`` on GitHub.
        blob: the git object of the file, or a commit that has it at ``path``.
        path: path of the file in the repository.
        terms: its licence.
        reduced_by: the picture is reduced by averaging this many x this many pixels.
        noise: noise level after that, grey values, measured where the picture is flat; negative: not measured.
    """

    file: str
    repository: str
    blob: str
    path: str
    terms: str
    reduced_by: int = 1
    noise: float = 0.0


def entries(kind: Kind) -> list[FreePhotograph]:
    """Read the list that comes with the package: 141 clean photographs, or 39 noisy ones."""
    text = files("atbsn").joinpath("data", "store", "lists", f"free_{kind}.tsv").read_text(encoding="utf-8")
    found = []
    for row in csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE):
        entry = FreePhotograph(row["file"], row["repository"], row["object"], row["path"], row["licence"])
        if kind == "clean":
            entry = entry._replace(reduced_by=int(row["reduced_by"]), noise=float(row["noise"]))
        found.append(entry)
    return found


def build_free(clones: Path, target: Path) -> str:
    """Write ``target/clean`` (PNG, sRGB, upright, reduced until clean) and ``target/noisy`` (JPEGs byte for byte).

    Files that exist are not changed, so that the command continues where it was stopped.

    Args:
        clones: a folder with clones, bare or not, each named ``<owner>+<name>``, because two have the same name.
        target: the folder to write to.

    Returns:
        What was written and what is missing, in words.

    Raises:
        UserError: git is missing, there is no clone, or the target cannot be written.
    """
    every: list[tuple[Kind, FreePhotograph]] = [("clean", entry) for entry in entries("clean")]
    every += [("noisy", entry) for entry in entries("noisy")]
    homes = {name: git_folder(clones, name) for name in sorted({entry.repository for _, entry in every})}
    if not any(homes.values()):
        commands = "\n".join(
            f"  git clone https://github.com/{name} {clones / name.replace('/', '+')}" for name in homes
        )
        raise UserError(f"{clones}: none of the repositories is there; clone them first:\n{commands}")
    missing = []
    for kind, entry in progress_bar(every, "photographs", unit="picture"):
        path = target / kind / f"{entry.file}.{'png' if kind == 'clean' else 'jpg'}"
        if path.is_file():
            continue
        home = homes[entry.repository]
        data = None if home is None else blob(home, entry)
        if data is None:
            missing.append(f"{entry.repository} {entry.path}")
        elif kind == "noisy":
            write_atomically(path, partial(_copy, data))
        else:
            write_picture(path, Picture(reduced_photograph(data, entry)))
    said = f"{target}: {len(every) - len(missing)} of {len(every)} photographs"
    return said + "".join(f"\n  missing: {name}" for name in missing)


def git_folder(clones: Path, repository: str) -> Path | None:
    """Find the git folder of the clone of ``repository`` (``owner/name``) below ``clones``; None if there is none."""
    folder = clones / repository.replace("/", "+")
    for git in (folder / ".git", folder):
        if (git / "HEAD").is_file() and (git / "objects").is_dir():
            return git
    return None


def blob(home: Path, entry: FreePhotograph) -> bytes | None:
    """Read the file of ``entry`` from the git folder ``home``; None if it is not there.

    ``entry.blob`` names the git object itself, or a commit that has the file at ``entry.path``.
    """
    for name in (entry.blob, f"{entry.blob}:{entry.path}"):
        command = ["git", f"--git-dir={home}", "cat-file", "blob", name]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except FileNotFoundError:
            raise UserError("git: not found; install it, photographs are read out of clones") from None
        if done.returncode == 0:
            return done.stdout
    return None


def reduced_photograph(data: bytes, entry: FreePhotograph) -> np.ndarray:
    """Decode a photograph, (H, W, 3) uint8 sRGB, and reduce it as the list says, and once more if it is still noisy."""
    with TemporaryDirectory() as folder:
        path = Path(folder, Path(entry.path).name)
        path.write_bytes(data)
        picture = read_picture(path)
    rgb = _averaged(_srgb(picture), entry.reduced_by)
    if 0 <= entry.noise <= _MAX_CLEAN:
        return rgb
    factor = _SLIGHTLY if 0 <= entry.noise <= _MAX_NEARLY_CLEAN else _MORE
    size = (int(rgb.shape[1] / factor), int(rgb.shape[0] / factor))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def _copy(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _srgb(picture: Picture) -> np.ndarray:
    """Convert ``picture`` to 8-bit sRGB by its ICC profile."""
    rgb = picture.rgb8()
    if picture.icc is None or picture.grey:
        return rgb
    source = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc))
    if "sRGB" in ImageCms.getProfileDescription(source):
        return rgb
    converted = ImageCms.profileToProfile(Image.fromarray(rgb), source, ImageCms.createProfile("sRGB"))
    return np.asarray(converted)


def _averaged(rgb: np.ndarray, factor: int) -> np.ndarray:
    """Average ``factor`` x ``factor`` pixels of (H, W, 3) uint8."""
    height, width = (side // factor for side in rgb.shape[:2])
    blocks = rgb[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    return (blocks.mean((1, 3), dtype=np.float32) + 0.5).astype(np.uint8)
