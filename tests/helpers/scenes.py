"""A picture that a camera has taken, made here: the clean one is known."""

import numpy as np
from scipy.ndimage import gaussian_filter


def scene(height: int = 320, width: int = 320) -> np.ndarray:
    """Flat on the left, edges on the right, (H, W, 3) in [0, 255]."""
    rows, columns = np.mgrid[:height, :width]
    wave = 60 * np.sign(np.sin(rows / 9) * np.sin(columns / 13)) * (columns > width // 2)
    return np.stack([110 + wave + shift for shift in (0, 10, -10)], axis=2) + rows[..., None] / 8


def taken(clean: np.ndarray, level: float = 10.0, seed: int = 0) -> np.ndarray:
    """``clean`` as a camera takes it, with correlated noise, uint8."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=clean.shape), (0.6, 0.6, 0))
    return np.clip(clean + field * level / field.std(), 0, 255).round().astype(np.uint8)
