"""The noise curve of a picture, for the page."""

from typing import Any

import numpy as np


def estimated_noise(rgb: np.ndarray) -> dict[str, Any]:
    """Estimate the noise of ``rgb``, (H, W, 3) as ``read_picture`` gives it: a ``studio.NoiseCurve``.

    Raises:
        UserError: the picture is too small, or all black and white.
    """
    from atbsn.noise import estimate

    model = estimate([rgb])
    levels = model.levels.tolist()
    centre = model.correlation.shape[-1] // 2
    own = model.correlation.diagonal()[centre, centre + 1].mean()
    return {
        "intensity": [255 * index / (len(levels[0]) - 1) for index in range(len(levels[0]))],
        "level": levels,
        "correlation": float(own),
    }
