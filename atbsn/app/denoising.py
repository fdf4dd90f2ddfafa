"""The reader and the denoiser that the arguments of ``atbsn denoise`` and ``atbsn watch`` ask for."""

from argparse import Namespace
from typing import Any

import torch

from atbsn.app.arguments import RAW_WEIGHTS, WEIGHTS
from atbsn.app.before_after import BeforeAfter
from atbsn.archs.base import FINISHING, Network
from atbsn.archs.weights import load
from atbsn.engine.inference.denoiser import Denoiser
from atbsn.engine.inference.photo import best_device, photo_denoiser
from atbsn.engine.inference.pipeline.run import TaskResult
from atbsn.engine.inference.pipeline.steps import Read
from atbsn.engine.inference.pipeline.task import Task
from atbsn.options.load import parse_yaml
from atbsn.pictures import read_raw, reader
from atbsn.pictures.mosaic import CHANNELS
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger


def reader_of(arguments: Namespace) -> Read:
    """The function that reads a picture file.

    Raises:
        UserError: settings contradict one another.
    """
    if not arguments.raw:
        return reader(arguments.white, arguments.page)
    if arguments.white != "auto" or arguments.page is not None:
        raise UserError("--white and --page: a raw file says its white, and has one picture; leave them out with --raw")
    return read_raw


def denoiser_of(arguments: Namespace) -> Denoiser:
    """The denoiser, on the device of ``--device``.

    Raises:
        UserError: there are no such weights or no such device, or the network lacks a setting or does not accept its
            value.
    """
    asked = {name: getattr(arguments, name) for name in (*FINISHING, "k", "margin")}
    settings: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    net = _network(weights_of(arguments), arguments.raw, arguments.network).to(device(arguments.device))
    return photo_denoiser(net, tile=arguments.tile, **settings)


def weights_of(arguments: Namespace) -> str:
    """The weights of ``--weights``; without it, the shipped weights for pictures or for raw files."""
    return arguments.weights or (RAW_WEIGHTS if arguments.raw else WEIGHTS)


def device(name: str) -> torch.device:
    """The device of ``--device``.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return best_device()
    try:
        found = torch.device(name)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError):  # torch without CUDA asserts
        raise UserError(f"--device {name}: there is no such device here; use cpu or auto") from None
    return found


def say(result: TaskResult, strength: float) -> None:
    """Log the result of one picture that was denoised with ``strength``."""
    label = result.task.label
    if result.reason is not None:
        logger.error("%s: %s", label, result.reason)
        return
    assert isinstance(result.task, Task), "what a planner refused has a reason"
    found: BeforeAfter = result.seen
    logger.info("%s: %s, %.1f s -> %s", label, found, result.seconds, result.task.target)
    # Noise that a mask keeps on purpose is no fault.
    for warning in found.warnings(strength if result.task.mask is None else 0.0):
        logger.warning("%s: %s", label, warning)


def named_network(text: str | None) -> str | dict[str, Any] | None:
    """Parse ``--network`` for ``atbsn.load``: a type, or options in YAML.

    Raises:
        UserError: it is neither.
    """
    network = None if text is None else parse_yaml(text, "--network")
    if network is not None and not isinstance(network, str | dict):
        raise UserError(
            f"--network {text}: no network; give its type, such as StudentC, or '{{type: StudentC, scale: 1}}'"
        )
    return network


def _network(name: str, raw: bool, network: str | None) -> Network:
    """Load the network of ``--weights``.

    Args:
        name: a weight file, the name of shipped weights, or weights of the hub.
        raw: whether it is to denoise raw data.
        network: ``--network``.

    Raises:
        UserError: it cannot be loaded, or it is not for raw data or not for pictures, as ``raw`` asks.
    """
    net = load(name, named_network(network))
    if raw and net.channels != CHANNELS:
        raise UserError(
            f"--weights {name}: a network for {net.channels} channels, but raw data have {CHANNELS}; name "
            f"weights that were trained on raw files (docs/raw.md), or none for {RAW_WEIGHTS}"
        )
    if not raw and net.channels == CHANNELS:
        raise UserError(f"--weights {name}: a network for raw data; give --raw too, or name weights for pictures")
    return net
