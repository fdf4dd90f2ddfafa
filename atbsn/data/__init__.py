"""Floor 2: data sets (one a file), patches and the training loader."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atbsn.registry import DATASETS
from atbsn.utils.build import build

if TYPE_CHECKING:
    from atbsn.data.base import ImageSet


def build_dataset(options: Mapping[str, Any]) -> "ImageSet":
    """The data set named by ``options["type"]``, built from the other options as its arguments.

    Raises:
        UserError: an unknown name, or arguments the data set does not take.
    """
    return build(DATASETS, options)
