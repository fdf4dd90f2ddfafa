"""Cameras whose noise is like that of given pictures, found by drawing many and keeping the nearest."""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from itertools import pairwise

import torch
from torch import Tensor

from atbsn.noise.camera import RandomCamera
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.fingerprint import BANDS, SIDE, cross_spectrum, radius
from atbsn.noise.prior import CameraPrior

PATCHES = 4
"""Number of patches of a picture, of ``SIDE`` x ``SIDE`` pixels, that every camera takes: the flattest. Chosen by hand:
the time grows with it."""
_SATURATED = (4.0, 251.0)
"""Grey values below and above which clipping cuts noise off. A patch is left out if half of its samples lie there.
Chosen by hand."""
_NO_NOISE = 0.3
"""Grey values: largest standard deviation of a patch without noise. Rounding to whole grey values alone makes it,
1 / sqrt(12)."""
_TOLERANCE = {"level": 0.05, "correlation": 0.03, "power": 0.02, "slope": 0.1, "skewness": 0.1}
"""The difference that counts as 1, for each kind of feature: the logarithm of the level, a correlation, a share of the
power, the logarithm of the level in the dark divided by that in the bright, and the skewness. Chosen by hand: about
twice the difference between patches with the same noise."""
THOROUGH = 616
"""Number of cameras that are tried for a pair: 256 of the prior, and in three rounds five descendants of each of the
nearest 24. Chosen by hand: with more, the distance hardly falls."""
_ROUNDS, _CHILDREN = 3, 5
"""Number of rounds, and of descendants of each kept camera in a round. Chosen by hand."""
_KEPT_SHARE, _MIN_KEPT = 24 / THOROUGH, 2
"""Share of the tried cameras that a round keeps, chosen by hand; and the least number: two are needed for a
difference."""
_BATCH = 16
"""Number of cameras that are tried at a time. Chosen by hand."""
MIN_TRIED = _BATCH + _ROUNDS * _MIN_KEPT * _CHILDREN
"""Least number of cameras that can be tried for a pair."""
_STEP = 0.6
"""Scale factor of differential evolution (Storn and Price, 1997): a descendant differs from its parent by 0.5 to 1.5
times this share of the difference between two other cameras. Chosen by hand; the paper's factor lies in [0, 2]."""
_MIN_QUALITY = 30.0
"""Least JPEG quality of a descendant. Chosen by hand, far below what cameras write."""
_POSITIVE = ("shot", "read", "exponent", "balance")
"""Attributes of a camera that are above 0. A descendant has them multiplied by a power of the ratio of those of two
other cameras, not by a difference."""


def cameras_like(
    pairs: Iterable[tuple[Tensor, Tensor]],
    prior: CameraPrior,
    keep: int = 8,
    seed: int = 0,
    each: Callable[[], object] = lambda: None,
    tried: int = THOROUGH,
) -> CameraTable:
    """Find the cameras whose noise is most like that of every pair, by approximate Bayesian computation.

    Cameras are drawn from ``prior`` and take the flattest patches of the clean picture. The nearest are kept: those
    whose noise has nearly the levels, correlations, spectrum, skewness and dependence on intensity of the pair's noise.
    They have descendants by differential evolution (Storn and Price, 1997), the nearest of all are kept again, and so
    on for three rounds.

    Args:
        pairs: (noisy, clean) pictures, (3, H, W), RGB, [0, 255], with sides of at least 64 pixels. The clean picture
            may be the output of a network for the noisy one.
        keep: number of cameras that are returned for each pair.
        seed: seed of all random numbers.
        each: called after every pair.
        tried: number of cameras that are tried for a pair, at least ``MIN_TRIED``. The time is proportional to it.

    Returns:
        ``keep`` cameras for each pair, in the order of the pairs, the nearest first. A pair that is saturated or has no
        noise everywhere has none.

    Raises:
        ValueError: a picture is too small, all are saturated or without noise, or too few cameras are to be tried.
    """
    if tried < MIN_TRIED:
        raise ValueError(f"tried: {tried}: at least {MIN_TRIED} are needed")
    found = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for noisy, clean in pairs:
            patches = _flattest(noisy, clean)
            if patches is not None:
                found.append(_nearest(*patches, prior, keep, tried))
            each()
    if not found:
        raise ValueError("all patches are saturated or without noise")
    return CameraTable.joined(found)


def distance(found: Tensor, wanted: Tensor) -> Tensor:
    """The root mean square difference of features (B, F) and (F,), in units of ``_TOLERANCE``: (B,)."""
    return (found - wanted).square().mean(dim=1).sqrt()


def features(noise: Tensor, clean: Tensor) -> Tensor:
    """Compute the features by which cameras are compared, (B, F), in units of ``_TOLERANCE``.

    Args:
        noise: (B, N, 3, H, W), the noise of B cameras on N patches, grey values.
        clean: (B, N, 3, H, W), the patches without noise, [0, 255].
    """
    blocks = noise.unfold(-2, SIDE, SIDE).unfold(-2, SIDE, SIDE).permute(0, 1, 3, 4, 2, 5, 6).flatten(1, 3)
    away = radius(noise.device)
    spectrum = cross_spectrum(blocks) / blocks.shape[1] * (away >= BANDS[0])
    covariance = torch.fft.ifft2(spectrum).real
    own = covariance.diagonal(dim1=1, dim2=2).permute(0, 3, 1, 2)  # (B, 3, 64, 64)
    variance = own[..., 0, 0].clamp(min=1e-3)
    lags = [own[..., 0, 1], own[..., 1, 0], (own[..., 1, 1] + own[..., 1, -1]) / 2]
    between = [
        covariance[:, i, j, 0, 0] / (variance[:, i] * variance[:, j]).sqrt() for i, j in ((0, 1), (1, 2), (0, 2))
    ]
    power = spectrum.diagonal(dim1=1, dim2=2).real.sum(dim=-1).flatten(1)
    bands = [power[:, ((away >= low) & (away < high)).flatten()].sum(dim=1) for low, high in pairwise((*BANDS, 1.0))]
    fine = noise - noise.mean(dim=(-2, -1), keepdim=True)
    grey = clean.mean(dim=2, keepdim=True).flatten(1)
    dark = (grey <= grey.median(dim=1, keepdim=True).values).float()
    squares = fine.square().mean(dim=2).flatten(1)
    in_dark, in_bright = ((squares * part).sum(1) / part.sum(1).clamp(min=1) for part in (dark, 1 - dark))
    scale = fine.square().mean(dim=(1, 3, 4)).clamp(min=1e-3)
    skewness = (fine**3).mean(dim=(1, 3, 4)) / scale**1.5
    parts = (
        (variance.log() / 2, "level"),
        (torch.cat(lags, dim=1) / variance.repeat(1, 3), "correlation"),
        (torch.stack(between, dim=1), "correlation"),
        (torch.stack(bands, dim=1) / power.sum(dim=1, keepdim=True).clamp(min=1e-6), "power"),
        (((in_dark + 1e-2) / (in_bright + 1e-2)).log()[:, None] / 2, "slope"),
        (skewness, "skewness"),
    )
    return torch.cat([value / _TOLERANCE[kind] for value, kind in parts], dim=1)


def _flattest(noisy: Tensor, clean: Tensor) -> tuple[Tensor, Tensor] | None:
    """Cut the ``PATCHES`` patches with the least detail in ``clean`` from both pictures: two (N, 3, 64, 64) tensors.

    Patches that are saturated or have no noise are left out. None if no patch is left.
    """
    if min(clean.shape[-2:]) < SIDE:
        raise ValueError(f"{clean.shape[-2]}x{clean.shape[-1]} pixels: at least {SIDE}x{SIDE} are needed")
    both = [
        x.float().unfold(-2, SIDE, SIDE).unfold(-2, SIDE, SIDE).permute(1, 2, 0, 3, 4).flatten(0, 1)
        for x in (noisy, clean)
    ]
    low, high = _SATURATED
    usable = ((both[1] > low) & (both[1] < high)).float().mean(dim=(1, 2, 3)) > 0.5
    usable &= (both[0] - both[1]).std(dim=(1, 2, 3)) > _NO_NOISE
    if not usable.any():
        return None
    noisy, clean = (x[usable] for x in both)
    detail = clean.diff(dim=-1).abs().mean(dim=(1, 2, 3)) + clean.diff(dim=-2).abs().mean(dim=(1, 2, 3))
    order = detail.argsort()[:PATCHES]
    return noisy[order], clean[order]


def _nearest(noisy: Tensor, clean: Tensor, prior: CameraPrior, keep: int, tried: int) -> CameraTable:
    """Find the ``keep`` cameras nearest to the noise of patches (N, 3, 64, 64), the nearest first."""
    wanted = features((noisy - clean)[None], clean[None])[0]
    camera = RandomCamera(
        prior.model_copy(
            update={
                "exposure": (1.0, 1.0), "light": (1.0, 1.0), "softened": 0.0, "recoloured": 0.0, "noiseless": 0.0,
                "grey": 0.0, "patterned": 0.0, "enlarged": 0.0,
            }
        )
    )  # fmt: skip

    def distances(cameras: CameraTable) -> Tensor:
        parts = []
        for rows in torch.arange(len(cameras)).split(_BATCH):
            some = cameras[rows.repeat_interleave(len(clean))]
            shown, scene = camera.taken(clean.repeat(len(rows), 1, 1, 1), some)
            grouped = (x.unflatten(0, (len(rows), len(clean))) for x in (shown - scene, scene))
            parts.append(distance(features(*grouped), wanted))
        return torch.cat(parts)

    kept = max(_MIN_KEPT, round(_KEPT_SHARE * tried))
    cameras = CameraTable.drawn(prior, torch.empty(tried - _ROUNDS * kept * _CHILDREN, 1, 1, 1))
    away = distances(cameras)
    for _ in range(_ROUNDS):
        best = away.argsort()[:kept]
        cameras, away = cameras[best], away[best]
        children = _descendants(cameras)
        cameras, away = CameraTable.joined([cameras, children]), torch.cat([away, distances(children)])
    return cameras[away.argsort()[:keep]]


def _descendants(cameras: CameraTable) -> CameraTable:
    """Make ``_CHILDREN`` descendants of each camera by differential evolution.

    A descendant has its parent's attributes plus a share of the difference between those of two random cameras.
    Attributes without an order, such as the demosaicing, are the parent's.
    """
    parents = torch.arange(len(cameras)).repeat(_CHILDREN)
    one, other = torch.randint(len(cameras), (2, len(parents)))
    own, first, second = cameras[parents], cameras[one], cameras[other]
    moved = {}
    for field in fields(CameraTable):
        value, plus, minus = (getattr(part, field.name) for part in (own, first, second))
        if field.name in ("clipped", "demosaicing", "banding_down", "subsampled"):
            continue
        step = _STEP * (0.5 + torch.rand(len(value), 1, 1, 1))
        if field.name in _POSITIVE:
            moved[field.name] = value * (plus / minus) ** step
        elif field.name == "matrix":
            moved[field.name] = value + step * (plus - minus)
        elif field.name == "quality":
            both = (value > 0) & (plus > 0) & (minus > 0)
            moved[field.name] = torch.where(both, (value + step * (plus - minus)).clamp(_MIN_QUALITY, 100), value)
        else:
            moved[field.name] = (value + step * (plus - minus)).clamp(min=0)
    for name in ("luma_unsmoothed", "colour_unsmoothed", "across", "along"):
        moved[name] = moved[name].clamp(max=1)
    return replace(own, **moved)
