"""A simulated camera that makes realistic noisy pictures of clean photographs. Nothing has to be downloaded."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from zlib import crc32

import cv2
import numpy as np
from annotated_types import Ge, Le

from atbsn.data.base import ImageSet
from atbsn.data.folder import relative_keys, write_examples
from atbsn.ops.srgb import linear_to_srgb, srgb_to_linear
from atbsn.pictures import Picture, image_paths, picture_size, read_picture, to_depth
from atbsn.registry import DATASETS
from atbsn.utils.errors import UserError
from atbsn.utils.types import NonNegativeInt

Variance = Annotated[float, Ge(1e-12), Le(1)]
"""Variance of noise on raw values in [0, 1], or its factor on the raw value."""

SOURCES = {
    "train": (
        "astronaut.png",
        "ihc.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "rocket.jpg",
    ),
    "val": ("chelsea.png", "coffee.png"),
}
"""Colour photographs in scikit-image's wheel. The two motorcycles are one scene, so they are in one split."""

_WHITE_BALANCE = np.array([2.0, 1.0, 1.6], np.float32)
"""Gains of red, green and blue for daylight. Chosen by hand, as usual sensors need them."""
_CAMERA_TO_SRGB = np.array([[1.4, -0.35, -0.05], [-0.15, 1.3, -0.15], [0, -0.3, 1.3]], np.float32)
"""Colour correction matrix. Chosen by hand, as usual sensors have it; rows sum to 1, so white stays white."""
_LENS_BLUR = 0.6
"""Pixels: standard deviation of the blur of lens and anti-aliasing filter. Chosen by hand: less would alias in the
mosaic."""
_BLACK, _WHITE = 4096, 65535
"""Raw levels. The black level, chosen by hand, keeps the negative half of the noise in the dark, as in real sensors."""
_MARGIN = 4
"""Pixels of reflection around the mosaic for demosaicing; an even number continues the pattern. Chosen by hand."""


@DATASETS.register
class SimulatedCamera(ImageSet):
    """Clean photographs, taken again by a simulated camera.

    The steps are: inverse gamma; lens blur; inverse colour matrix and white balance; Bayer mosaic (RGGB); noise;
    bilinear demosaicing; white balance, colour matrix and gamma; 8 bits, or 16 if the photograph has more than 8; JPEG
    of 8 bits, if asked for. The noise of a raw value x in [0, 1] is Poisson-Gaussian, of variance a x + b (Foi et al.,
    IEEE TIP 2008). a and b are drawn log-uniformly for each picture. Demosaicing spreads the noise, so it is spatially
    correlated as in SIDD and PolyU (lag-1 correlation about 0.6). By default the noisy pictures have about 27 dB.

    The reference is the same photograph from the same camera without noise and JPEG, so that the loss by lens and
    mosaic does not count as noise. The noise depends only on ``seed`` and the name of the picture.

    Args:
        dataroot: a folder of clean photographs; by default those in scikit-image's wheel.
        split: which of scikit-image's photographs: those for training or those for scores; not for a folder.
        shot_noise: range of a.
        read_noise: range of b.
        jpeg_quality: quality of the JPEG of the noisy picture, 1 to 100; without it there is no JPEG.
        seed: seed of the noise.

    Raises:
        UserError: ``dataroot`` is missing or empty, or given together with a split; a range ends below its beginning;
            or scikit-image is not installed.
    """

    has_clean = True

    def __init__(
        self,
        dataroot: str | Path | None = None,
        split: Literal["train", "val"] | None = None,
        shot_noise: tuple[Variance, Variance] = (0.0015, 0.003),
        read_noise: tuple[Variance, Variance] = (1e-5, 1e-4),
        jpeg_quality: Annotated[int, Ge(1), Le(100)] | None = None,
        seed: NonNegativeInt = 0,
    ) -> None:
        if dataroot is None:
            self.paths = _wheel_photographs(split)
            root = self.paths[0].parent
        elif split is None:
            self.paths, root = image_paths(dataroot), Path(dataroot)
        else:
            raise UserError(f"split {split!r}: only for the photographs in scikit-image; give two folders instead")
        for name, (low, high) in (("shot_noise", shot_noise), ("read_noise", read_noise)):
            if low > high:
                raise UserError(f"{name}: {[low, high]} is no range: its end is below its beginning; exchange the two")
        self._keys = relative_keys(self.paths, root if root.is_dir() else root.parent)
        self.shot_noise = shot_noise
        self.read_noise = read_noise
        self.jpeg_quality = jpeg_quality
        self.seed = seed

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        write_examples(folder, "one", "two")
        return {"dataroot": str(folder)}

    def __len__(self) -> int:
        return len(self.paths)

    def key(self, index: int) -> str:
        return self._keys[index]

    def size(self, index: int) -> tuple[int, int]:
        return picture_size(self.paths[index])

    def read(self, index: int) -> Picture:
        clean = read_picture(self.paths[index]).rgb
        raw = bayer_mosaic(clean)
        rng = np.random.Generator(np.random.Philox(key=[self.seed, crc32(self.key(index).encode())]))
        shot, read = (np.exp(rng.uniform(*np.log(bounds))) for bounds in (self.shot_noise, self.read_noise))
        rgb = develop(add_sensor_noise(raw, shot, read, rng), np.uint8 if self.jpeg_quality else _depth(clean))
        if self.jpeg_quality is not None:
            _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])
            bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
            assert bgr is not None, "it was encoded a line ago"
            rgb = np.ascontiguousarray(bgr[..., ::-1])
        return Picture(rgb)

    def read_clean(self, index: int) -> Picture:
        clean = read_picture(self.paths[index]).rgb
        return Picture(develop(bayer_mosaic(clean), _depth(clean)))


def bayer_mosaic(rgb: np.ndarray) -> np.ndarray:
    """Convert (H, W, 3) sRGB, of any depth, to noise-free raw values of an RGGB sensor, (H, W) float32 in [0, 1]."""
    srgb = to_depth(rgb, np.float32) / 255
    linear = cv2.GaussianBlur(srgb_to_linear(srgb), (0, 0), _LENS_BLUR, borderType=cv2.BORDER_REFLECT_101)
    camera = np.clip(linear @ np.linalg.inv(_CAMERA_TO_SRGB).T, 0, 1) / _WHITE_BALANCE
    raw = camera[..., 1].copy()
    raw[0::2, 0::2] = camera[0::2, 0::2, 0]
    raw[1::2, 1::2] = camera[1::2, 1::2, 2]
    return raw


def add_sensor_noise(raw: np.ndarray, shot: float, read: float, rng: np.random.Generator) -> np.ndarray:
    """Add the noise of photon counts with gain ``shot`` and Gaussian noise of variance ``read`` to ``raw`` (H, W).

    The variance of the noise is shot * raw + read.
    """
    photons = rng.poisson(raw / shot) * shot
    return (photons + rng.normal(0, np.sqrt(read), raw.shape)).astype(np.float32)


def develop(raw: np.ndarray, depth: type = np.uint8) -> np.ndarray:
    """Convert (H, W) raw values of an RGGB sensor to (H, W, 3) sRGB, uint8 or uint16."""
    levels = np.clip(raw * (_WHITE - _BLACK) + _BLACK + 0.5, 0, _WHITE).astype(np.uint16)
    padded = cv2.copyMakeBorder(levels, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_REFLECT_101)
    demosaiced = cv2.cvtColor(padded, cv2.COLOR_BayerRGGB2RGB)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    camera = (demosaiced.astype(np.float32) - _BLACK) / (_WHITE - _BLACK) * _WHITE_BALANCE
    linear = np.clip(np.minimum(camera, 1) @ _CAMERA_TO_SRGB.T, 0, 1)
    return (linear_to_srgb(linear) * (255 if depth == np.uint8 else 65535) + 0.5).astype(depth)


def _depth(clean: np.ndarray) -> type:
    """The type of the picture that the camera makes of ``clean``."""
    return np.uint8 if clean.dtype == np.uint8 else np.uint16


def _wheel_photographs(split: Literal["train", "val"] | None) -> list[Path]:
    names = SOURCES[split] if split else sorted((*SOURCES["train"], *SOURCES["val"]))
    package = find_spec("skimage")
    if package is None or package.submodule_search_locations is None:
        raise UserError("SimulatedCamera: needs scikit-image for its photographs; install it or give a dataroot")
    return [Path(package.submodule_search_locations[0], "data", name) for name in names]
