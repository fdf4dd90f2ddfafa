"""Floor 2: data sets, one in each file; patches and the training loader. ``build_dataset`` makes a set by name."""

from collections.abc import Mapping
from typing import Any

from atbsn.data.base import ImageSet
from atbsn.registry import DATASETS
from atbsn.registry.build import build

__all__ = ["build_dataset"]


def build_dataset(options: Mapping[str, Any]) -> ImageSet:
    """Build the data set ``options["type"]`` with the other entries as its arguments.

    Raises:
        UserError: the name is not registered, or the class does not take these arguments.
    """
    return build(DATASETS, options)
