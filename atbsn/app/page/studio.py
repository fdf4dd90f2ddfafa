"""The computations of the page. They run outside of the server's event loop."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atbsn.app.page.downloads import called, clean_file, clean_files
from atbsn.app.page.jobs import PageJob
from atbsn.app.page.offers import of_full_strength, offered_formats, offered_holes, own_settings, without_weights
from atbsn.app.page.regions import lay_mask, take_mask_off
from atbsn.app.page.sessions import Session, Upload, own_copies
from atbsn.app.page.views import LOUPE, Region, grey_values, shrink, view_bytes
from atbsn.archs.base import Network
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.samples import watched
from atbsn.pictures import picture_size, read_picture, to_tensor
from atbsn.pictures.formats import kinds_here
from atbsn.utils.errors import UserError

MAX_STRENGTH = 1.5
"""Largest value of the strength slider. Chosen by hand."""
MAX_MINUTES = 30.0
"""Minutes: longest time of an adaptation. Chosen by hand."""
_PREVIEW_SIDE, _PREVIEW_SIDE_OF_FAMILY = 2048, 1280
"""Pixels: longest side of a view; and of the views for a network with blind spots, one for each. Chosen by hand."""
_NOISE_SIDE = 4096
"""Pixels: side of the central part of a picture from which its noise is estimated. Chosen by hand."""

Adapt = Callable[
    [Sequence[Path], float, Network, Callable[[float, str], None], Callable[[], bool]], tuple[Network | None, str]
]
"""``adapt(pictures, minutes, start, on_progress, should_stop)``: returns a network adapted to these pictures, or None
if ``start`` suits them better, and a sentence on the result. ``on_progress`` is called with the share that is done and
the present stage. When ``should_stop`` returns true, the best network so far is returned."""
NoiseCurve = Callable[[np.ndarray], dict[str, Any]]
"""Estimate the noise of (H, W, 3): ``{"intensity": [...], "level": [[...], [...], [...]], "correlation": ...}``."""


@dataclass(frozen=True)
class Limits:
    """Limits above which uploads are refused.

    Attributes:
        megabytes: size of a file.
        megapixels: size of a picture.
        pictures: number of pictures in a session.
    """

    megabytes: float = 300
    megapixels: float = 120
    pictures: int = 24


class Studio:
    """A network, and the computations that visitors can request.

    Args:
        net: the network.
        name: name of its weights, for the page.
        limits: limits for uploads.
        adapt: adapts weights to a visitor's pictures; None: the page does not offer it.
        noise_curve: estimates a picture's noise; None: the page does not offer it.
    """

    def __init__(
        self, net: Network, name: str, limits: Limits, adapt: Adapt | None, noise_curve: NoiseCurve | None
    ) -> None:
        self.net = net
        self.name = name
        self.limits = limits
        self._adapt = adapt
        self._noise_curve = noise_curve
        self._decoding, self._painting = threading.Lock(), threading.Lock()
        self.holes = offered_holes(net)
        self.preview_side = _PREVIEW_SIDE_OF_FAMILY if self.holes else _PREVIEW_SIDE

    def describe(self, session: Session) -> dict[str, Any]:
        """Describe for the page what it can offer in this session."""
        return {
            "weights": {"start": self.name, **({"adapted": "adapted"} if session.adapted else {})},
            "network": type(self.net).__name__,
            "strongest": MAX_STRENGTH,
            "settings": own_settings(self.net),
            "holes": self.holes,
            "adapt": self._adapt is not None,
            "noise": self._noise_curve is not None,
            "formats": kinds_here(),
            "megabytes": self.limits.megabytes,
            "megapixels": self.limits.megapixels,
            "loupe": LOUPE,
        }

    def open(self, session: Session, upload: Upload) -> dict[str, Any]:
        """Decode a picture (one at a time), make its view, and return its facts for the page.

        Raises:
            UserError: it is not a picture, or too large. The message has the visitor's name for it.
        """
        with self._decoding, called(upload):
            height, width = picture_size(upload.path)
            if height * width > self.limits.megapixels * 1e6:
                raise UserError(
                    f"{upload.name}: {height * width / 1e6:.0f} megapixels are over the limit of "
                    f"{self.limits.megapixels:g}; make it smaller or cut it up"
                )
            picture = read_picture(upload.path)
            np.save(_samples(upload), picture.rgb)
        small = shrink(picture.rgb, self.preview_side)
        upload.path.with_name("before.view").write_bytes(view_bytes(grey_values(small), picture.icc))
        upload.facts = {
            "id": upload.id,
            "name": upload.name,
            "height": height,
            "width": width,
            "bits": picture.rgb.dtype.itemsize * 8,
            "grey": picture.grey,
            "view": [small.shape[1], small.shape[0]],
            "before": session.offer(upload.path.with_name("before.view"), "before"),
            "mask": None,
            **offered_formats(picture),
        }
        upload.icc = picture.icc
        session.pictures[upload.id] = upload
        return upload.facts

    def before(self, upload: Upload, region: Region) -> bytes:
        """The noisy samples of a region at 1:1, in the format of ``views``."""
        return view_bytes(grey_values(_open_samples(upload)[region.rows, region.columns]), upload.icc)

    def view(
        self, session: Session, upload: Upload, settings: Mapping[str, Any], region: Region | None, job: PageJob
    ) -> dict[str, Any]:
        """Denoise the view, or a region at 1:1 (None: the view), with full strength and with every blind spot.

        Returns:
            ``{"width", "height", "views": {k or "": id of the file}}``.
        """
        samples = _open_samples(upload)
        if region is None:
            rgb, inner = shrink(samples, self.preview_side), (slice(None), slice(None))
        else:
            margin = 2 * self.net.tile_overlap
            rgb, inner = region.with_margin(samples, margin)
        noisy = to_tensor(np.ascontiguousarray(rgb))[None]
        denoiser = watched(photo_denoiser(self._net(session, settings), **of_full_strength(settings)), job.progress)
        names = [str(k) for k in self.holes] or [""]
        cleans = self._run(denoiser, noisy)
        views = {}
        for name, clean in zip(names, cleans, strict=True):
            if not clean.isfinite().all():
                raise UserError(f"{upload.name}: the network's output is not finite; check its weights")
            values = clean[0].permute(1, 2, 0).float().cpu().numpy()[inner]
            path = upload.path.with_name(f"{job.id}-{name}.view")
            path.write_bytes(view_bytes(values, upload.icc))
            views[name] = session.offer(path, "view")
        session.keep_newest(upload.offered, "region" if region else "small", list(views.values()))
        return {"width": values.shape[1], "height": values.shape[0], "views": views}

    def result(
        self, session: Session, upload: Upload, settings: Mapping[str, Any], suffix: str | None, job: PageJob
    ) -> dict[str, Any]:
        """Write the clean file of a picture: ``clean_file``."""
        return clean_file(session, upload, self._photo_denoiser(session, settings), suffix, job)

    def results(
        self, session: Session, settings: Mapping[str, Any], suffixes: Mapping[str, str], job: PageJob
    ) -> dict[str, Any]:
        """Write the clean files of all pictures with the same settings: ``clean_files``."""
        return clean_files(session, self._photo_denoiser(session, settings), suffixes, job)

    def lay_mask(self, session: Session, upload: Upload, data: bytes) -> dict[str, Any]:
        """Store a mask, or with empty ``data`` remove it; returns the new facts of the picture.

        Raises:
            UserError: the mask has a wrong size.
        """
        with self._painting:
            if data:
                lay_mask(session, upload, data)
            else:
                take_mask_off(session, upload)
        return upload.facts

    def noise(self, upload: Upload, job: PageJob) -> dict[str, Any]:
        """Estimate the noise of a picture: its level as a function of intensity."""
        assert self._noise_curve is not None
        job.progress(0.0)
        samples = _open_samples(upload)
        top, left = (max(0, (length - _NOISE_SIDE) // 2) for length in samples.shape[:2])
        with called(upload):
            return self._noise_curve(np.array(samples[top : top + _NOISE_SIDE, left : left + _NOISE_SIDE]))

    def adapt(self, session: Session, minutes: float, job: PageJob) -> dict[str, Any]:
        """Adapt the weights to the session's pictures. If that helps, ``weights: adapted`` names the new weights."""
        assert self._adapt is not None
        if not session.pictures:
            raise UserError("There is no picture to learn from; drop one first.")
        with own_copies(session) as paths:
            net, sentence = self._adapt(paths, minutes, self.net, job.note, job.should_stop)
        if net is not None:
            session.adapted = net.eval()
        return {"message": sentence, "helped": net is not None}

    def _photo_denoiser(self, session: Session, settings: Mapping[str, Any]) -> Denoiser:
        return photo_denoiser(self._net(session, settings), **without_weights(settings))

    def _net(self, session: Session, settings: Mapping[str, Any]) -> Network:
        if settings.get("weights", "start") == "start":
            return self.net
        if session.adapted is None:
            raise UserError("There are no adapted weights; adapt first.")
        return session.adapted

    def _run(self, denoiser: Denoiser, noisy: torch.Tensor) -> torch.Tensor:
        """Denoise with all blind spots, (K, 1, 3, H, W). A network without a blind spot gives one output, K = 1."""
        return denoiser.family(self.holes)(noisy) if self.holes else denoiser(noisy)[None]


def _samples(upload: Upload) -> Path:
    return upload.path.with_name("samples.npy")


def _open_samples(upload: Upload) -> np.ndarray:
    """The picture's samples, memory-mapped: only what is used is read from the disk."""
    return np.load(_samples(upload), mmap_mode="r")
