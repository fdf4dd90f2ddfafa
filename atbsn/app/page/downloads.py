"""Clean files in full size and depth. They equal those that ``atbsn denoise`` writes with the same settings."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

from atbsn.app.before_after import BeforeAfter, BeforeAfterObserver
from atbsn.app.page.jobs import PageJob
from atbsn.app.page.regions import mask_file
from atbsn.app.page.sessions import Session, Upload
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.finish import strengths
from atbsn.engine.inference.pipeline.run import denoise_file
from atbsn.engine.inference.pipeline.task import Task
from atbsn.utils.errors import UserError

MAX_RESULTS = 4
"""Most files of full size that are kept for a picture: the newest ones. Chosen by hand."""
ALL = "atbsn_clean.zip"
"""Name of the archive with the clean files of several pictures."""


def clean_file(
    session: Session, upload: Upload, denoiser: Denoiser, suffix: str | None, job: PageJob
) -> dict[str, Any]:
    """Write the clean file of one picture.

    Args:
        session: the visitor's session.
        upload: the picture.
        denoiser: denoises it.
        suffix: suffix of the format, one of those offered; None: the first of them.
        job: reports the progress.

    Returns:
        ``{"file": id, "name": ..., "bytes": ..., "noise": ..., "warnings": [...]}``.

    Raises:
        UserError: the format was not offered, or the picture cannot be denoised.
    """
    suffix = _checked(upload, suffix)
    path = upload.path.with_name(f"{job.id}{suffix}")
    said = _written(upload, path, denoiser, job.progress)
    name = _clean_name(upload, suffix)
    file = session.offer(path, name)
    session.keep_newest(upload.offered, "result", [file], MAX_RESULTS)
    return {"file": file, "name": name, "bytes": path.stat().st_size, **said}


def clean_files(session: Session, denoiser: Denoiser, suffixes: Mapping[str, str], job: PageJob) -> dict[str, Any]:
    """Write an archive with the clean files of all pictures of a session. Pictures that fail are left out.

    Args:
        session: the visitor's session.
        denoiser: denoises the pictures.
        suffixes: suffixes of the chosen formats, by the pictures' ids; for other pictures, the first one offered.
        job: reports the progress.

    Returns:
        ``{"file": id, "name": ..., "bytes": ..., "number": of pictures, "warnings": [...]}``. Each warning names its
        picture; there is one for each picture that failed.

    Raises:
        UserError: there is no picture, or all failed.
    """
    uploads = list(session.pictures.values())
    if not uploads:
        raise UserError("There is no picture; drop one first.")
    path = session.folder / f"{job.id}.zip"
    warnings: list[str] = []
    names: set[str] = set()
    aside = Path(tempfile.mkdtemp(dir=session.folder))
    try:
        with ZipFile(path, "w", ZIP_STORED) as archive:  # pictures are compressed already
            for number, upload in enumerate(uploads):

                def progress(share: float, done: int = number, name: str = upload.name) -> None:
                    job.progress((done + share) / len(uploads), f"{done + 1} of {len(uploads)}, {name}")

                progress(0.0)
                try:
                    suffix = _checked(upload, suffixes.get(upload.id))
                    said = _written(upload, aside / f"clean{suffix}", denoiser, progress)
                except UserError as error:
                    there = upload.id in session.pictures
                    if there and isinstance(error.__cause__, OSError):  # a full disk, for all of them
                        raise
                    warnings.append(_failure(upload, error) if there else _removed(upload))
                    continue
                if upload.id not in session.pictures:
                    warnings.append(_removed(upload))
                    continue
                name = _free_name(_clean_name(upload, suffix), names)
                archive.write(aside / f"clean{suffix}", name)
                names.add(name)
                warnings += [f"{name}: {warning}" for warning in said["warnings"]]
        if not names:
            raise UserError("\n".join(warnings))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    file = session.offer(path, ALL)
    session.keep_newest(session.offered, "all", [file])
    return {"file": file, "name": ALL, "bytes": path.stat().st_size, "number": len(names), "warnings": warnings}


@contextmanager
def called(upload: Upload) -> Iterator[None]:
    """Context in which error messages name the picture as the visitor does, and not our temporary file."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(upload.path), upload.name)) from error


def _checked(upload: Upload, suffix: str | None) -> str:
    offered = upload.facts["formats"]
    suffix = suffix or next(iter(offered), "")
    if suffix not in offered:
        raise UserError(f"{upload.name}: cannot be written as {suffix or 'anything'}; choose {', '.join(offered)}")
    return suffix


def _written(upload: Upload, path: Path, denoiser: Denoiser, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Write the clean file of a picture to ``path``; returns its noise before and after, and warnings."""
    painted, mask = mask_file(upload), None
    if painted is not None:
        mask = path.with_name(f"{path.name}.mask.png")
        mask.write_bytes(painted)
    task = Task(upload.name, path, upload.path, mask=mask)
    try:
        with called(upload):
            found: BeforeAfter = denoise_file(task, denoiser, observer=BeforeAfterObserver(), on_progress=on_progress)
    finally:
        if mask is not None:
            mask.unlink(missing_ok=True)
    strength = strengths(denoiser.settings)[0] if mask is None else 0.0  # noise that a mask keeps is no fault
    return {"noise": str(found), "warnings": found.warnings(strength)}


def _clean_name(upload: Upload, suffix: str) -> str:
    return f"{Path(upload.name).stem}_clean{suffix}"


def _free_name(name: str, taken: set[str]) -> str:
    """``name``, with a number added if another picture has this name."""
    path, number, free = Path(name), 1, name
    while free in taken:
        number += 1
        free = f"{path.stem} ({number}){path.suffix}"
    return free


def _failure(upload: Upload, error: UserError) -> str:
    text = str(error)
    return text if text.startswith(upload.name) else f"{upload.name}: {text}"


def _removed(upload: Upload) -> str:
    return f"{upload.name}: was removed before it was done"
