"""What can be written, and what is refused."""

from typing import Any

import numpy as np
import pytest

from atbsn.pictures import Picture
from atbsn.pictures.formats import CODECS
from atbsn.pictures.metadata import RefusedError, Samples


@pytest.mark.parametrize("codec", [codec for codec in CODECS if not codec.writes], ids=lambda codec: codec.name)
def test_a_format_that_is_only_read_refuses_to_be_written(codec: Any) -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(RefusedError, match=rf"\({codec.name} is only read\); name a \.tif"):
        codec.encode(Samples(rgb, False, 0), Picture(rgb), None)
