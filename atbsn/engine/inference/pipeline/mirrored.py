"""A planner: the pictures of folders go to the same paths in another folder. There may be millions of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from atbsn.engine.inference.pipeline.manifest import has_results
from atbsn.engine.inference.pipeline.plan import NO_RAW, ORIGINAL, is_picture_or_unlisted, mirrored_name
from atbsn.engine.inference.pipeline.shards import Shard
from atbsn.engine.inference.pipeline.task import Refused, Task
from atbsn.pictures import formats, walk_pictures
from atbsn.pictures.find import Item
from atbsn.utils.errors import UserError


class Mirrored:
    """The tasks for the pictures below ``roots``. The clean file of each has the same path in ``folder``.

    Pictures are listed while they are iterated over. Every clean file keeps its name; camera RAW becomes
    ``<name>.tif``, so that ``a.NEF`` does not collide with ``a.tif``. Folders of results below a root are not entered.

    Args:
        roots: folders and files.
        folder: folder of the results.
        shard: the part of the pictures to give.
        raw: give camera raw files only, each with a DNG as target.

    Attributes:
        met: number of pictures found, in all shards.
        passed_over: number of files that are no pictures, by the reason.

    Raises:
        UserError: a root does not exist, or its pictures would be overwritten by their results.
    """

    def __init__(self, roots: Sequence[Path], folder: Path, shard: Shard, raw: bool = False) -> None:
        self.roots = list({root.resolve(): root for root in roots}.values())
        self.folder, self.shard, self.raw = folder, shard, raw
        self.met, self.passed_over = 0, Counter[str]()
        for root in self.roots:
            if not root.exists():
                raise UserError(f"{root}: no such file or folder; check the path")
            if (root if root.is_dir() else root.parent).resolve() == folder.resolve():
                raise UserError(f"{root}: would be overwritten by its denoised picture; give another --output")
        self._folders = {number: root for number, root in enumerate(self.roots) if root.is_dir()}
        resolved, place = {root.resolve() for root in self.roots}, folder.resolve()
        self._within = {root for root in resolved if place in root.parents}
        """Roots inside of the folder of results: their files must not be overwritten."""

    def __iter__(self) -> Iterator[Task | Refused]:
        """The tasks, and what is refused, such as a folder that cannot be listed."""
        files: dict[Path, Path] = {}
        for number, item in self._items(count=True):
            path, name, reason = item
            if reason is not None:
                yield Refused(path, reason)
            elif (first := files.get(name) or self._in_earlier_folder(number, name)) is not None:
                reason = f"also in {first}: the name of two pictures, of which one would be lost; denoise them apart"
                yield Refused(path, reason)
            elif self._within and self._is_within(target := self.folder / mirrored_name(name, self.raw)):
                yield Refused(path, f"its clean picture would go to {target}, {ORIGINAL}")
            else:
                yield Task(name.as_posix(), self.folder / mirrored_name(name, self.raw), path)
            if number not in self._folders:
                files.setdefault(name, path)

    def names(self) -> Iterator[object]:
        """The pictures of this shard, only to count them. ``met`` and ``passed_over`` stay as they are."""
        return (item for _, item in self._items(count=False))

    def _items(self, count: bool) -> Iterator[tuple[int, Item]]:
        """Yield the pictures of this shard, and folders that cannot be listed, each with the index of its root."""
        place = self.folder.resolve()

        def leave_out(path: Path) -> bool:
            return has_results(path) or path.resolve() == place

        for number, root in enumerate(self.roots):
            for item in walk_pictures(root, in_order=False, leave_out=leave_out):
                if self.raw and item.reason is None and item.path.suffix.lower() not in formats.RAW:
                    item = item._replace(reason=NO_RAW)
                wanted = item.reason is None or is_picture_or_unlisted(item.path, item.reason)
                if count:
                    self.met += wanted
                    self.passed_over[item.reason or ""] += not wanted and item.reason != "hidden"
                if wanted and self.shard.holds(item.name.as_posix()):
                    yield number, item

    def _in_earlier_folder(self, number: int, name: Path) -> Path | None:
        """The first root before root ``number`` that is a folder with a picture of this name; None if there is none."""
        return next((root for n, root in self._folders.items() if n < number and (root / name).is_file()), None)

    def _is_within(self, target: Path) -> bool:
        place = target.resolve()
        return any(root == place or root in place.parents for root in self._within)
