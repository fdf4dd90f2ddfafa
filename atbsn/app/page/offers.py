"""What the page offers: blind spots, initial positions of its sliders, formats to download."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from atbsn.archs.base import BlindSpotNetwork, Network
from atbsn.engine.inference.finish import finish
from atbsn.engine.inference.photo import takes_setting
from atbsn.pictures import Picture, check_target, suffixes_for
from atbsn.utils.errors import UserError
from atbsn.utils.types import Hole

HOLES: tuple[Hole, ...] = (0, 1, 3, 5, 7, 9, 11, "mean")
"""Blind spots that are offered if the network accepts them; ``mean`` is the mean over its family."""


def offered_holes(net: Network) -> list[Hole]:
    """The blind spots to offer; empty for a network without a blind spot."""
    if not isinstance(net, BlindSpotNetwork) or "k" not in type(net).denoise_keywords():
        return []
    numbers = {*HOLES, own_settings(net)["k"]} - {"mean"}
    return [k for k in [*sorted(numbers), "mean"] if takes_setting(net, "k", k)]


def own_settings(net: Network) -> dict[str, Any]:
    """The settings that ``atbsn denoise`` uses by default. The sliders of the page begin with them."""
    names = ["strength", "luma", "colour", "detail", *(["k"] if "k" in type(net).denoise_keywords() else [])]
    declared = {**signature(finish).parameters, **signature(type(net).denoise).parameters}
    defaults = {name: declared[name].default for name in names}
    return {name: net.denoise_settings.get(name, default) for name, default in defaults.items()}


def without_weights(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` without ``weights``: those of the denoiser itself."""
    return {name: value for name, value in settings.items() if name != "weights"}


def of_full_strength(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings for a view. The browser applies strengths up to 1 itself, and does not send them.

    So the server denoises with full strength and the visitor's other settings. Views are made for every blind spot.
    """
    given = {name: value for name, value in settings.items() if name in ("luma", "colour", "detail")}
    return {"strength": 1.0, "luma": 1.0, "colour": 1.0, **given}


def offered_formats(picture: Picture) -> dict[str, Any]:
    """The formats to offer for a picture.

    Returns:
        ``formats``: suffixes of formats that can hold the picture, its own first; ``unfit``: why its own format cannot
        hold it, or None.
    """
    own = picture.suffix
    others = [suffix for suffix in suffixes_for(picture) if suffix != own.lower()]
    try:
        check_target(f"picture{own}", picture)
    except UserError as error:
        return {"formats": others, "unfit": str(error).split(": ", 1)[1]}
    return {"formats": [own, *others], "unfit": None}
