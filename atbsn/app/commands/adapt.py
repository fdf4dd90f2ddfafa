"""``atbsn adapt``: weights for the camera of the user's own pictures."""

import signal
from argparse import Namespace
from pathlib import Path

import numpy as np

from atbsn.app.adapt import sentence, warnings
from atbsn.app.denoising import device
from atbsn.app.sheet import SIDE, choose_crops, cut, sheet_of
from atbsn.archs.base import Network
from atbsn.archs.weights import load_with_metadata, save_weights
from atbsn.engine.adaptation import Adapted, adapt
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.pipeline.clean import clean_picture
from atbsn.engine.training.interrupt import StopSignal
from atbsn.noise import describe_noise
from atbsn.pictures import Picture, find_pictures, read_picture, write_picture
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger, share_bar

_SEARCHED_SIDE = 1536
"""Pixels: side of the central part of a picture from which crops to show are chosen. Chosen by hand."""
_MARGIN = 32
"""Pixels around a crop that are denoised with it, since at the edges a network sees too little. Chosen by hand."""


def main(arguments: Namespace) -> int:
    output = Path(arguments.output)
    if output.suffix not in (".pth", ".safetensors"):
        raise UserError(f"--output {output}: weights are .pth or .safetensors files; name one")
    if output.exists() and not arguments.overwrite:
        raise UserError(f"--output {output}: is there already; name another file, or give --overwrite")
    found = find_pictures(arguments.inputs)
    logger.info("%s; about %g minutes, Ctrl-C ends it earlier", found.summary(), arguments.minutes)
    start, metadata = load_with_metadata(arguments.start)
    start.to(device(arguments.device))
    with StopSignal() as stop, share_bar("adapt") as show:
        result = adapt(arguments.inputs, arguments.minutes, start, show, lambda: stop.received is not None, metadata)
        logger.info("noise: %s", describe_noise(result.noise))
        for warning in warnings(result):
            logger.warning("%s", warning)
        logger.info("%s", sentence(result))
        save_weights(output, result.net.state_dict(), result.metadata)
        pages = _sheet(found.paths, start, result, output)
        logger.info("%s: the %s weights; before | after in %s", output, "new" if result.helped else "old", pages)
        logger.info("use them: atbsn denoise %s --weights %s", arguments.inputs[0], output)
    return 0 if stop.received in (None, signal.SIGINT) else 128 + stop.received


def _sheet(paths: list[Path], start: Network, result: Adapted, output: Path) -> Path:
    """Write crops of the first picture that can be read: noisy, and cleaned by the weights before and by new ones."""
    for path in paths:
        try:
            rgb = read_picture(path).rgb
        except UserError:  # it was reported before
            continue
        top, left = (max(0, (length - _SEARCHED_SIDE) // 2) for length in rgb.shape[:2])
        part = rgb[top : top + _SEARCHED_SIDE, left : left + _SEARCHED_SIDE]
        places = list(choose_crops(part).values())
        columns = {"noisy": cut(part, places)}
        for name, net in (("before", start), ("after", result.net)):
            if name == "before" or result.helped:
                columns[name] = [_cleaned(net, part, place) for place in places]
        target = output.with_name(f"{output.stem}_compare.png")
        write_picture(target, Picture(sheet_of(columns)))
        return target
    raise AssertionError("a picture was learned from, so one can be read")


def _cleaned(net: Network, rgb: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """The square of ``rgb`` (H, W, 3) at ``place`` (top, left), denoised with some pixels around it; uint8."""
    top, left = (max(0, start - _MARGIN) for start in place)
    around = rgb[top : place[0] + SIDE + _MARGIN, left : place[1] + SIDE + _MARGIN]
    clean = clean_picture(photo_denoiser(net), Picture(np.ascontiguousarray(around)), "sheet").rgb
    return cut(clean, [(place[0] - top, place[1] - left)])[0]
