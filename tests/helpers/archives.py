"""Small archives in exactly the formats in which SIDD and DND are published, with contents that show every mix-up."""

from pathlib import Path

import cv2
import h5py
import numpy as np
import scipy.io

INSTANCES = ("0001_001_S6_00100_00060_3200_L", "0002_001_S6_00800_00350_5500_N", "0010_004_GP_00800_00640_3200_N")


def photograph(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A clean picture, (H, W, 3) uint8, in which no two axes or channels are alike, and a noisy one of it.

    The noise is spatially correlated, as that of cameras.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    clean = np.stack([90 + 60 * np.sin(x / 9 + seed), 40 + 140 * y / height, 60 + 120 * x / width], axis=2)
    noise = cv2.GaussianBlur(rng.normal(0, 30, clean.shape), (0, 0), 0.7)
    rounded, noisy = (np.clip(values + 0.5, 0, 255).astype(np.uint8) for values in (clean, clean + noise))
    return rounded, noisy


def make_sidd_medium(root: Path, height: int = 100, width: int = 140) -> dict[str, np.ndarray]:
    """``SIDD_Medium_Srgb`` with three scenes of two pictures; gives the noisy ones by key."""
    noisy_by_key = {}
    for number, instance in enumerate(INSTANCES):
        folder = root / "SIDD_Medium_Srgb" / "Data" / instance
        folder.mkdir(parents=True)
        for shot in ("010", "011"):
            clean, noisy = photograph(height, width, seed=10 * number + int(shot))
            for kind, rgb in (("NOISY", noisy), ("GT", clean)):
                name = f"{instance[:4]}_{kind}_SRGB_{shot}"
                (folder / f"{name}.PNG").write_bytes(cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())
                if kind == "NOISY":
                    noisy_by_key[f"{instance}/{name}"] = rgb
    return noisy_by_key


def make_sidd_blocks(
    root: Path, kind: str, images: int = 2, blocks: int = 3, size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """``<kind>NoisyBlocksSrgb.mat``, with references for ``Validation``; gives noisy and clean blocks.

    MATLAB v5, one variable named as the file, uint8 (images, blocks, H, W, 3).
    """
    pairs = [photograph(size, size, seed) for seed in range(images * blocks)]
    clean, noisy = (np.stack(part).reshape(images, blocks, size, size, 3) for part in zip(*pairs, strict=True))
    root.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(root / f"{kind}NoisyBlocksSrgb.mat", {f"{kind}NoisyBlocksSrgb": noisy}, do_compression=True)
    if kind == "Validation":
        scipy.io.savemat(root / "ValidationGtBlocksSrgb.mat", {"ValidationGtBlocksSrgb": clean})
    return noisy, clean


def make_dnd(
    root: Path, images: int = 2, boxes: int = 3, height: int = 120, width: int = 150, box: int = 64
) -> tuple[list[np.ndarray], np.ndarray]:
    """``info.mat`` and ``images_srgb``; gives the noisy images, (H, W, 3) float32 in [0, 1], and their boxes.

    Boxes are (images, boxes, 4): rows and columns from 1, the last ones included. Image 2 has its first box in a
    corner.
    """
    rng = np.random.default_rng(7)
    corners = rng.integers(0, (height - box + 1, width - box + 1), (images, boxes, 2)) + 1
    corners[1, 0] = 1
    table = np.concatenate([corners, corners + box - 1], axis=2).astype(float)
    (root / "images_srgb").mkdir(parents=True)
    noisy = []
    for number in range(images):
        rgb = photograph(height, width, seed=number)[1].astype(np.float32) / 255
        noisy.append(
            np.clip(rgb + rng.uniform(-0.3, 0.3, rgb.shape).astype(np.float32) / 255, 0, 1)
        )  # not 8-bit values
        with create_v73(root / "images_srgb" / f"{number + 1:04d}.mat") as file:
            file.create_dataset("InoisySRGB", data=noisy[-1].T, chunks=(1, 32, 32), compression="gzip")
    with create_v73(root / "info.mat") as file:
        cells = [file.create_dataset(f"#refs#/{number}", data=table[number].T).ref for number in range(images)]
        references = file.create_dataset("info/boundingboxes", (1, images), dtype=h5py.ref_dtype)
        references[0, :] = cells
    return noisy, table


def create_v73(path: Path) -> h5py.File:
    """An HDF5 file as MATLAB v7.3 begins it: behind 512 bytes of its own."""
    file = h5py.File(path, "w", userblock_size=512)
    file.close()
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  2 10:00:00 2017 HDF5 schema 1.00 ."
    with path.open("r+b") as raw:
        raw.write(header.ljust(124) + b"\x00\x02IM")
    return h5py.File(path, "r+")
