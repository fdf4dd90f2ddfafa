"""The ledger of a sweep, ``experiments/<sweep>/sweep.json``: the state of every point."""

import json
from pathlib import Path
from typing import Any

from atbsn.engine.sweeps.points import Point
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_text

LEDGER = "sweep.json"
"""Name of the file."""


class Ledger:
    """The state of every point. It is written at every change.

    An entry has the point's ``kind``, ``name``, ``stage``, ``axes``, ``seed``, ``needs``, ``folder``, ``weights``,
    ``log`` and ``digest``; ``status`` (waiting, running, done, failed, stopped); ``seconds``, summed over all its
    starts; ``cores``; and ``reason`` if it failed.

    Raises:
        UserError: the file cannot be read, or a point was begun with other options than it has now.
    """

    def __init__(self, folder: Path, points: list[Point]) -> None:
        self.path = folder / LEDGER
        self.entries: dict[str, dict[str, Any]] = read_ledger(self.path) if self.path.is_file() else {}
        faults = []
        for point in points:
            old = self.entries.get(point.id, {"status": "waiting", "seconds": 0.0, "digest": point.digest})
            begun = point.kind == "train" and point.folder.exists() and old["status"] != "waiting"
            if old["digest"] != point.digest:
                if begun:
                    faults.append(f"{point.folder}: begun with other options than the sweep has now")
                old = {"status": "waiting", "seconds": 0.0}
            elif old["status"] == "done" and not point.is_there():
                old = {"status": "waiting", "seconds": 0.0}
            if point.needs is not None and old["status"] != "waiting" and self.entries[point.needs]["status"] != "done":
                if begun:
                    faults.append(f"{point.folder}: learnt from weights that are not there any more ({point.needs})")
                old = {"status": "waiting", "seconds": 0.0}
            self.entries[point.id] = {
                **old, "kind": point.kind, "name": point.name, "stage": point.stage, "axes": point.axes,
                "seed": point.seed, "needs": point.needs, "folder": point.folder.as_posix(),
                "weights": str(Path(point.options.path.pretrain_network or "")) if point.kind != "train"
                else point.weights.as_posix(),
                "log": point.log.as_posix(), "digest": point.digest,
            }  # fmt: skip
        if faults:
            lines = "\n".join(f"  {fault}" for fault in faults)
            remedy = "remove these folders, or give the sweep another name"
            raise UserError(f"{self.path}: {len(faults)} fault(s); {remedy}\n{lines}")
        kept = {point.id for point in points}
        self.entries = {key: entry for key, entry in self.entries.items() if key in kept}

    def __getitem__(self, point: Point) -> dict[str, Any]:
        return self.entries[point.id]

    def update(self, point: Point, **changes: Any) -> None:
        """Change an entry and write the file."""
        self.entries[point.id].update(changes)
        self.write()

    def write(self) -> None:
        """Write the file, whole or not at all."""
        write_text(self.path, json.dumps(self.entries, indent=1) + "\n")


def read_ledger(path: Path) -> dict[str, dict[str, Any]]:
    """Read the entries of a sweep, by the ids of its points.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        for entry in entries.values():
            _ = entry["status"], float(entry["seconds"]), entry["digest"], dict(entry["axes"]), entry["kind"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a readable record of a sweep ({error}); remove it to start anew") from None
    return entries
