"""Shards: the part of the pictures that each process works on. Processes find theirs without communication."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

from atbsn.utils import dist
from atbsn.utils.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of the pictures.

    Attributes:
        index: number of this part, from 0.
        count: number of parts.
    """

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index + 1}-of-{self.count}"

    def holds(self, name: str) -> bool:
        """Whether the picture of this name is in this part. A hash of the name decides, so parts are about equal."""
        return self.count == 1 or hash64(name) % self.count == self.index

    def part_of(self, items: Sequence[T]) -> Sequence[T]:
        """This part of a list that all processes know: every ``count``-th item, so that parts differ by at most one."""
        return items[self.index :: self.count]

    def split(self, index: int, count: int) -> "Shard":
        """Divide this part into ``count`` parts, and return part ``index`` of these."""
        return Shard(self.index * count + index, self.count * count)


def own_shard(text: str | None, by_array: bool = True) -> Shard:
    """The shard of this process.

    ``--shard`` or, without it, the task of a Slurm array gives a part. The processes of the launcher divide that part.

    Args:
        text: ``--shard``.
        by_array: whether the tasks of a Slurm array divide the pictures.

    Raises:
        UserError: ``text`` is not i/n, or the array has gaps.
    """
    given = Shard() if text is None else parse_shard(text)
    whole = array_shard(os.environ) if text is None and by_array else given
    return whole.split(dist.rank(), dist.world_size())


def parse_shard(text: str) -> Shard:
    """Parse ``"2/8"``, the second of eight parts.

    Raises:
        UserError: ``text`` is not of that form.
    """
    found = re.fullmatch(r"0*([1-9]\d{0,8})/0*([1-9]\d{0,8})", text.strip(), re.ASCII)
    if found is None or int(found[1]) > int(found[2]):
        raise UserError(f"--shard {text}: not one of n parts; give i/n with i from 1 to n, such as 1/8")
    return Shard(int(found[1]) - 1, int(found[2]))


def array_shard(environment: Mapping[str, str]) -> Shard:
    """The part of this task of a Slurm job array, whatever the array's first number and step are; without one, all.

    Raises:
        UserError: the numbers of the array have gaps, as when some of its tasks are submitted again.
    """
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return Shard()
    try:
        task, first, count = (int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "COUNT"))
        last, step = int(environment["SLURM_ARRAY_TASK_MAX"]), int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
    except (KeyError, ValueError):
        raise UserError("SLURM_ARRAY_TASK_*: not as Slurm sets them; say which part this is with --shard i/n") from None
    if step < 1 or count < 1 or (last - first) // step + 1 != count or (task - first) % step:
        raise UserError(
            f"the Slurm array has {count} tasks from {first} to {last}, which are no range, so this task's part cannot "
            "be told; give --shard i/n, such as --shard $SLURM_ARRAY_TASK_ID/8"
        )
    return Shard((task - first) // step, count)


def hash64(text: str) -> int:
    """A hash of ``text`` of 64 bits that is the same on every machine and in every version."""
    return int.from_bytes(blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "little")
