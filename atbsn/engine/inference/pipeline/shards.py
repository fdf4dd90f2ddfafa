"""Which part of the pictures is this process's: the same on every machine, without talking to the others."""

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
    """One of ``count`` parts of all names.

    Attributes:
        index: from 0.
        count: how many parts there are.
    """

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index + 1}-of-{self.count}"

    def holds(self, name: str) -> bool:
        """Whether the picture of this name is in this part: by a hash, so about equally many are in each."""
        return self.count == 1 or hash64(name) % self.count == self.index

    def part_of(self, items: Sequence[T]) -> Sequence[T]:
        """This part of a list that every process knows: each n-th, so that the parts are as equal as can be."""
        return items[self.index :: self.count]

    def split(self, index: int, count: int) -> "Shard":
        """Part ``index`` of ``count`` of this part."""
        return Shard(self.index * count + index, self.count * count)


def own_shard(text: str | None, by_array: bool = True) -> Shard:
    """The part of this process: of ``--shard``, or of its Slurm array, what falls to it among the launcher's processes.

    Args:
        by_array: whether the tasks of a Slurm array share the pictures out.

    Raises:
        UserError: ``text`` is not i/n, or the array has gaps.
    """
    given = Shard() if text is None else parse_shard(text)
    whole = array_shard(os.environ) if text is None and by_array else given
    return whole.split(dist.rank(), dist.world_size())


def parse_shard(text: str) -> Shard:
    """``"2/8"``: the second of eight parts.

    Raises:
        UserError: it is not of that form.
    """
    found = re.fullmatch(r"0*([1-9]\d{0,8})/0*([1-9]\d{0,8})", text.strip(), re.ASCII)
    if found is None or int(found[1]) > int(found[2]):
        raise UserError(f"--shard {text}: not one of n parts; give i/n with i from 1 to n, such as 1/8")
    return Shard(int(found[1]) - 1, int(found[2]))


def array_shard(environment: Mapping[str, str]) -> Shard:
    """The part of a task of a Slurm job array, whatever its first number and step are; all, where there is no array.

    Raises:
        UserError: the array's numbers are no range, as when some tasks of an array are submitted again.
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
    """64 bits of ``text``, on every machine and in every version the same."""
    return int.from_bytes(blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "little")
