"""Several denoisers side by side: quality, size, arithmetic and speed."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
from atbsn.utils.durations import median_seconds
from atbsn.utils.errors import UserError
from atbsn.utils.files import write_text
from atbsn.utils.tables import format_csv
from atbsn.utils.types import Hole

_MEASURED_SIDE = 512
"""Pixels: side of the square pictures on which arithmetic and speed are measured. Chosen by hand."""
_MEASURED_SIDE_ON_CPU = 128
"""Pixels: the same for the arithmetic of networks that have to run on values, on the CPU. Chosen by hand."""

MethodFacts = Mapping[str, Mapping[str, Any]]
"""Parameters, arithmetic, speed and checksum of each method, by label."""


@dataclass(frozen=True)
class Candidate:
    """One way to denoise. It may give several results at once, such as the blind spots of a family.

    Attributes:
        labels: labels of the results, for tables.
        denoise: maps (1, 3, H, W), [0, 255], on the CPU to the results.
        num_params: number of parameters of the network; None if there is no network.
        kmac: thousands of multiply-adds a pixel, for all results together; None if there is no network.
        weights: the weight file.
        sha256: checksum of that file.
        holes: the blind spots of the results; empty if there are none.
    """

    labels: tuple[str, ...]
    denoise: Denoise
    num_params: int | None = None
    kmac: float | None = None
    weights: str | None = None
    sha256: str | None = None
    holes: tuple[Hole, ...] = ()


def weight_candidate(
    path: str | Path,
    name: str,
    denoiser_of: Callable[[Network], Denoiser],
    ks: Sequence[Hole],
    with_mean: bool,
) -> Candidate:
    """The candidate of the network in a weight file.

    A blind-spot network gives a result for each of ``ks``, from one feature pass, and their mean if ``with_mean``.
    Without ``ks`` it gives one result, with the k that its weights were trained for. Other networks give one result.

    Args:
        path: the weight file, or the name of shipped weights.
        name: its name in tables; see ``short_names``.
        denoiser_of: builds the denoiser of a network.
        ks: blind spots.
        with_mean: add the mean over ``ks``.
    """
    net, _ = load_with_metadata(path)
    denoiser = denoiser_of(net)
    if not isinstance(net, BlindSpotNetwork):
        return _candidate(path, (name,), labelled(denoiser), denoiser)
    if not ks:
        k = denoiser.settings.get("k", 3)
        label = f"{name} mean" if k == "mean" else f"{name} k={k}"
        return replace(_candidate(path, (label,), labelled(denoiser), denoiser), holes=(k,))
    if with_mean and "mean" in ks:
        raise UserError("--k: mean is that of the network's family, --mean that of the others named; give one of them")
    labels = [f"{name} mean" if k == "mean" else f"{name} k={k}" for k in ks] + [f"{name} mean"] * with_mean
    family = labelled(denoiser, list(ks))

    def denoise(noisy: Tensor) -> dict[str, Tensor]:
        outputs = dict(family(noisy))
        return {**outputs, "mean": torch.stack(list(outputs.values())).mean(dim=0)} if with_mean else outputs

    holes: tuple[Hole, ...] = (*ks, "mean") if with_mean else tuple(ks)
    return replace(_candidate(path, tuple(labels), denoise, denoiser, ks), holes=holes)


def nlm_candidate(strength: float) -> Candidate:
    """OpenCV's non-local means for colour, with 7 x 7 patches, a 21 x 21 window and ``strength`` h in grey levels."""
    label = f"OpenCV NLM h={strength:g}"
    return Candidate((label,), _on_bytes(label, lambda x: cv2.fastNlMeansDenoisingColored(x, None, strength, strength)))


def bm3d_candidate(sigma: float | Literal["auto"]) -> Candidate:
    """CBM3D (Dabov et al., 2007) for noise of standard deviation ``sigma``, grey levels.

    With ``auto``, ``noise_level`` estimates it for each picture. A picture whose noise cannot be estimated stays as it
    is.

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
    """Thousands of multiply-adds a pixel to denoise a large picture, for all blind spots ``ks`` together.

    They are counted from the shapes of the operators that the network calls. A network that reads values while it
    denoises is run on a picture of 128 x 128 pixels instead.

    Args:
        net: the network.
        ks: blind spots of a blind-spot network; empty: that of ``settings``.
        settings: settings of the denoiser; None: the network's defaults.
    """
    own, _ = split_settings(type(net), settings or {})
    for device, side in (("meta", _MEASURED_SIDE), ("cpu", _MEASURED_SIDE_ON_CPU)):
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
        except RuntimeError:  # the network read values, which tensors on the meta device do not have
            if device == "cpu":
                raise
    return counter.get_total_flops() / 2e3 / side**2


def together(candidates: Sequence[Candidate]) -> Denoise:
    """A function for ``evaluate`` that returns the results of all candidates, by label."""

    def denoise(noisy: Tensor) -> dict[str, Tensor]:
        results: dict[str, Tensor] = {}
        for candidate in candidates:
            results.update(zip(candidate.labels, candidate.denoise(noisy).values(), strict=True))
        return results

    return denoise


def megapixels_per_second(candidate: Candidate, repeats: int = 3) -> float:
    """Median speed on pictures of 512 x 512, one at a time, copies to the device included; a family counts once."""
    noisy = torch.rand(1, 3, _MEASURED_SIDE, _MEASURED_SIDE) * 255
    return _MEASURED_SIDE**2 / 1e6 / median_seconds(lambda: candidate.denoise(noisy), repeats)


def measure_candidates(candidates: Sequence[Candidate]) -> MethodFacts:
    """Parameters, thousands of MACs a pixel, megapixels a second and the checksum of the weights, by label."""
    return {
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


def comparison_table(rows: Sequence[Row], facts: MethodFacts, metrics: Mapping[str, Column]) -> list[dict[str, Any]]:
    """One row for each method: its mean metrics and its ``facts``."""
    empty = dict.fromkeys(("parameters", "kMAC/pixel", "MP/s", "weights"))
    return [{"method": name, **values, **facts.get(name, empty)} for name, values in means(rows, metrics).items()]


def write_comparison(
    folder: Path,
    table: Sequence[dict[str, Any]],
    metrics: Mapping[str, Column],
    title: str,
    candidates: Sequence[Candidate] = (),
    more: Sequence[str] = (),
) -> str:
    """Write ``comparison.csv`` and ``comparison.md``; returns the Markdown, which also names weights and versions.

    Args:
        folder: folder of the two files.
        table: the rows of ``comparison_table``.
        metrics: the columns, by name.
        title: first line.
        candidates: their weight files are listed with checksums.
        more: lines of Markdown below the table.
    """
    write_text(folder / "comparison.csv", format_csv(table[0], table))
    header = list(table[0])
    lines = [f"{title}\n", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    digits = {name: metric.digits for name, metric in metrics.items()}
    lines += ["| " + " | ".join(_cell(line[key], digits.get(key)) for key in header) + " |" for line in table]
    lines += [*more, "", *(f"- {name}: {metric.protocol}" for name, metric in metrics.items())]
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
    """Turn a denoiser of (H, W, 3) uint8 arrays into one of (1, 3, H, W) tensors in [0, 255]."""

    def denoise(noisy: Tensor) -> dict[str, Tensor]:
        picture = np.ascontiguousarray(noisy[0].permute(1, 2, 0).clamp(0, 255).add(0.5).byte().numpy())
        return {label: torch.from_numpy(np.asarray(function(picture), np.float32)).permute(2, 0, 1)[None]}

    return denoise


def short_names(paths: Sequence[str | Path]) -> list[str]:
    """Names of weight files for a table, as short as possible but different.

    ``experiments/NAME/models/net_latest.pth`` is called NAME, and any other file by its stem. If two files would have
    one name, parts of their paths are added. The same file given twice has the same name twice.
    """
    ladders = [_longer_and_longer(Path(path)) for path in paths]
    steps = [0] * len(ladders)
    while True:
        names = [ladder[step] for ladder, step in zip(ladders, steps, strict=True)]
        alike = [number for number, name in enumerate(names) if names.count(name) > 1]
        alike = [number for number in alike if steps[number] + 1 < len(ladders[number])]
        if not alike:
            return names
        for number in alike:
            steps[number] += 1


def _longer_and_longer(path: Path) -> list[str]:
    """The names of a file to try, from the shortest to the whole path."""
    names, parts = [path.stem], list(path.parts[:-1])
    if path.parent.name == "models" and len(parts) > 1:
        parts.pop()
        names = [parts[-1]]
        names.append(f"{parts.pop()}/{path.stem}")
    while parts:
        names.append(f"{parts.pop().strip('/')}/{names[-1]}")
    return names


def _cell(value: Any, digits: int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{digits}f}" if digits is not None else f"{value:.2f}" if abs(value) > 1 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
