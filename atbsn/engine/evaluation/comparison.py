"""Several denoisers side by side: quality, size, arithmetic and speed."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.archs.shipped import find_weights
from atbsn.archs.weights import load_with_metadata
from atbsn.engine.evaluation.evaluator import Column, Denoise, Row, means
from atbsn.engine.evaluation.validation import labelled
from atbsn.engine.inference.denoiser import Denoiser, holes_of
from atbsn.engine.inference.finish import split_settings
from atbsn.engine.provenance import commit, file_sha256, versions
from atbsn.noise.level import noise_level
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_text
from atbsn.utils.tables import format_csv
from atbsn.utils.types import Hole

_MEASURED_SIDE = 512
"""Pictures on which arithmetic and speed are measured are so many pixels square."""


@dataclass(frozen=True)
class Candidate:
    """One way to denoise, which may give several results at once (the blind spots of a family).

    Attributes:
        labels: of the results.
        denoise: (1, 3, H, W), [0, 255], on the CPU, and its name, to the results by label.
        num_params: of the network; None where there is none.
        kmac: thousands of multiply-adds a pixel, for all results together; None where there is no network.
        weights: the file of the network's weights.
        sha256: of that file.
    """

    labels: tuple[str, ...]
    denoise: Denoise
    num_params: int | None = None
    kmac: float | None = None
    weights: str | None = None
    sha256: str | None = None


def weight_candidate(
    path: str | Path,
    denoiser_of: Callable[[Network], Denoiser],
    ks: Sequence[Hole],
    with_mean: bool,
) -> Candidate:
    """How the network in a weight file denoises.

    A blind-spot network gives its results at ``ks`` from one feature pass and, ``with_mean``, their mean; without
    ``ks`` its result at the k it is meant for. Any other network gives one result.

    Args:
        denoiser_of: makes a denoiser of a network.
    """
    net, _ = load_with_metadata(path)
    denoiser = denoiser_of(net)
    name = _short_name(path)
    if not isinstance(net, BlindSpotNetwork):
        return _candidate(path, (name,), labelled(denoiser), denoiser)
    if not ks:
        k = denoiser.settings.get("k", 3)
        return _candidate(path, (f"{name} mean" if k == "mean" else f"{name} k={k}",), labelled(denoiser), denoiser)
    if with_mean and "mean" in ks:
        raise UserError("--k: mean is that of the network's family, --mean that of the others named; give one of them")
    labels = [f"{name} mean" if k == "mean" else f"{name} k={k}" for k in ks] + [f"{name} mean"] * with_mean
    family = labelled(denoiser, list(ks))

    def denoise(noisy: Tensor) -> dict[str, Tensor]:
        outputs = dict(family(noisy))
        return {**outputs, "mean": torch.stack(list(outputs.values())).mean(dim=0)} if with_mean else outputs

    return _candidate(path, tuple(labels), denoise, denoiser, ks)


def nlm_candidate(strength: float) -> Candidate:
    """OpenCV's non-local means for colour (7 x 7 patches, 21 x 21 window) of strength h, grey levels."""
    label = f"OpenCV NLM h={strength:g}"
    return Candidate((label,), _on_bytes(label, lambda x: cv2.fastNlMeansDenoisingColored(x, None, strength, strength)))


def bm3d_candidate(sigma: float | Literal["auto"]) -> Candidate:
    """CBM3D (Dabov et al., 2007) for noise of standard deviation ``sigma``, grey levels.

    With ``auto``, for that which ``noise_level`` finds in each picture; one that tells nothing stays as it is.

    Raises:
        UserError: the optional package bm3d is not installed.
    """
    try:
        from bm3d import bm3d_rgb
    except ImportError:
        raise UserError("--bm3d: the optional package is not installed; pip install bm3d") from None
    label = f"BM3D sigma={sigma}" if isinstance(sigma, str) else f"BM3D sigma={sigma:g}"

    def denoise(picture: np.ndarray) -> np.ndarray:
        level = noise_level(picture) if isinstance(sigma, str) else sigma
        return bm3d_rgb(picture / 255.0, level / 255) * 255 if level else picture

    return Candidate((label,), _on_bytes(label, denoise))


@torch.no_grad()
def kmac_per_pixel(net: Network, ks: Sequence[Hole] = (), settings: Mapping[str, Any] | None = None) -> float:
    """Thousands of multiply-adds a pixel to denoise a large picture, at all blind spots ``ks`` of a network with them.

    Counted from shapes, as the network is written: what a device saves by a rewrite of its own is not taken off. A
    network that looks at values while it denoises is run on a picture of 128 x 128 instead.

    Args:
        settings: of the denoiser; None: the network's defaults.
    """
    own, _ = split_settings(type(net), settings or {})
    for device, side in (("meta", _MEASURED_SIDE), ("cpu", 128)):
        measured = copy.deepcopy(net).to(device)
        noisy = torch.full((1, 3, side, side), 127.5, device=device)
        try:
            with FlopCounterMode(display=False) as counter:
                holes = holes_of(measured, ks or [own.get("k", 3)]) if isinstance(measured, BlindSpotNetwork) else []
                if len(holes) > 1 and isinstance(measured, BlindSpotNetwork):
                    measured.denoise_family(noisy, holes, **{name: own[name] for name in own if name != "k"})
                else:
                    measured.denoise(noisy, **own)
            break
        except RuntimeError:  # torch's: values were looked at, which the meta device does not have
            if device == "cpu":
                raise
    return counter.get_total_flops() / 2e3 / side**2


def together(candidates: Sequence[Candidate]) -> Denoise:
    """All results of all candidates for a picture, by label, for ``evaluate``."""

    def denoise(noisy: Tensor) -> dict[str, Tensor]:
        results: dict[str, Tensor] = {}
        for candidate in candidates:
            results.update(zip(candidate.labels, candidate.denoise(noisy).values(), strict=True))
        return results

    return denoise


def megapixels_per_second(candidate: Candidate, repeats: int = 3) -> float:
    """Median speed over 512 x 512 pictures, one at a time, transfers included; a family counts once."""
    noisy = torch.rand(1, 3, _MEASURED_SIDE, _MEASURED_SIDE) * 255
    seconds = []
    for _ in range(repeats + 1):  # the first one warms up
        start = time.perf_counter()
        candidate.denoise(noisy)
        seconds.append(time.perf_counter() - start)
    return _MEASURED_SIDE**2 / 1e6 / median(seconds[1:])


def comparison_table(
    rows: Sequence[Row], candidates: Sequence[Candidate], metrics: Mapping[str, Column]
) -> list[dict[str, Any]]:
    """One line a method: its means, parameters, thousand MACs a pixel, megapixels a second, checksum of its weights."""
    facts: dict[str, dict[str, Any]] = {
        label: {
            "parameters": candidate.num_params,
            "kMAC/pixel": candidate.kmac,
            "MP/s": speed,
            "weights": candidate.sha256 and candidate.sha256[:12],
        }
        for candidate in candidates
        for speed in (megapixels_per_second(candidate),)
        for label in candidate.labels
    }
    empty = dict.fromkeys(("parameters", "kMAC/pixel", "MP/s", "weights"))
    return [{"method": name, **values, **facts.get(name, empty)} for name, values in means(rows, metrics).items()]


def write_comparison(
    folder: Path,
    table: Sequence[dict[str, Any]],
    metrics: Mapping[str, Column],
    title: str,
    candidates: Sequence[Candidate] = (),
) -> str:
    """Write ``comparison.csv`` and ``comparison.md``, which says where it comes from; returns the Markdown."""
    write_text(folder / "comparison.csv", format_csv(table[0], table))
    header = list(table[0])
    lines = [f"{title}\n", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(key, line[key]) for key in header) + " |" for line in table]
    lines += ["", *(f"- {name}: {metric.protocol}" for name, metric in metrics.items())]
    lines += [f"- {each.weights}: sha256 {each.sha256}" for each in candidates if each.weights is not None]
    lines += [f"- commit {commit()}; {versions()}"]
    text = "\n".join(lines) + "\n"
    write_text(folder / "comparison.md", text)
    return text


def _candidate(
    path: str | Path, labels: tuple[str, ...], denoise: Denoise, denoiser: Denoiser, ks: Sequence[Hole] = ()
) -> Candidate:
    num_params = sum(parameter.numel() for parameter in denoiser.net.parameters())
    kmac = kmac_per_pixel(denoiser.net, ks, denoiser.settings)
    return Candidate(labels, denoise, num_params, kmac, str(path), file_sha256(find_weights(path)))


def _on_bytes(label: str, function: Callable[[np.ndarray], np.ndarray]) -> Denoise:
    """A denoiser of (H, W, 3) uint8 arrays as one of tensors."""

    def denoise(noisy: Tensor) -> dict[str, Tensor]:
        picture = np.ascontiguousarray(noisy[0].permute(1, 2, 0).clamp(0, 255).add(0.5).byte().numpy())
        return {label: torch.from_numpy(np.asarray(function(picture), np.float32)).permute(2, 0, 1)[None]}

    return denoise


def _short_name(path: str | Path) -> str:
    """``experiments/NAME/models/net_latest.pth`` is NAME; any other file is its stem."""
    path = Path(path)
    return path.parents[1].name if path.parent.name == "models" else path.stem


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if key.startswith("ssim") else f"{value:.2f}" if abs(value) > 1 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
