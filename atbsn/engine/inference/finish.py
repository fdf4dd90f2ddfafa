"""Steps before and after any network. Their keywords are available for every network beside its own."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from torch import Tensor

from atbsn.archs.base import FINISHING, Network
from atbsn.ops.defects import remove_banding, replace_hot_pixels
from atbsn.ops.detail import return_detail
from atbsn.ops.enlarged import denoise_enlarged
from atbsn.ops.luma import scale_apart
from atbsn.registry.build import check_arguments, parameter_names
from atbsn.utils.errors import UserError
from atbsn.utils.types import Fraction

GIVEN = ("denoise", "noisy")
"""Parameters of ``finish`` that are not settings of the user."""

Strength = Annotated[float, Ge(0), Le(2)]
"""0: the noisy picture; 1: the network's output; 2: that output, denoised once more."""


def finish(
    denoise: Callable[[Tensor], Tensor],
    noisy: Tensor,
    *,
    strength: Strength = 1.0,
    luma: Strength | None = None,
    colour: Strength | None = None,
    detail: Literal["auto"] | Fraction = 0.0,
    hot_pixels: bool = False,
    banding: bool = False,
    enlarged: Annotated[int, Ge(1), Le(8)] = 1,
) -> Tensor:
    """Denoise ``noisy``, with the steps that the keywords ask for.

    The order is: repairs, the network at the size of the noise, strengths above 1, detail, strengths below 1.

    Args:
        denoise: maps (B, 3, H, W) to (..., B, 3, H, W).
        noisy: (B, 3, H, W), RGB, [0, 255].
        strength: how much of the noise is removed, 0 to 2. With N the network, the result up to 1 is
            noisy + strength (N(noisy) - noisy). Above 1 the output is denoised once more in part:
            N(noisy) + (strength - 1) (N(N(noisy)) - N(noisy)).
        luma: the strength for brightness (BT.601 luma); None: ``strength``.
        colour: the strength for everything but brightness; None: ``strength``.
        detail: share, 0 to 1, of the detail that is given back: of what the network removed although noise cannot
            explain it (``return_detail``). ``auto``: 1 if the network leaves hardly any noise, otherwise 0.
        hot_pixels: first replace single pixels that are far off by the median of their neighbours, whatever the
            strength (``replace_hot_pixels``).
        banding: first remove the offsets of whole rows and columns, whatever the strength (``remove_banding``).
        enlarged: factor by which the picture, noise included, was enlarged after it was taken: 2, 3, ... The network
            sees it at its original size.

    Returns:
        (..., B, 3, H, W), of the type of ``noisy``, not clipped.
    """
    if hot_pixels:
        noisy = replace_hot_pixels(noisy)
    if banding:
        noisy = remove_banding(noisy)
    of_luma, of_colour = _strengths(strength, luma, colour)
    if of_luma == of_colour == 0:
        return noisy
    if enlarged > 1:
        denoise = partial(denoise_enlarged, denoise, factor=enlarged)
    clean = denoise(noisy).to(noisy.dtype)
    if max(of_luma, of_colour) > 1:
        again = denoise(clean).to(noisy.dtype)
        clean = clean + scale_apart(again - clean, max(of_luma - 1, 0), max(of_colour - 1, 0))
    clean = return_detail(noisy, clean, detail)
    if min(of_luma, of_colour) >= 1:
        return clean
    return noisy + scale_apart(clean - noisy, min(of_luma, 1), min(of_colour, 1))


def leaves_pictures_alone(settings: Mapping[str, Any]) -> bool:
    """Whether ``finish`` with these settings returns the noisy picture itself, bit for bit."""
    return max(strengths(settings)) == 0 and not settings.get("hot_pixels") and not settings.get("banding")


def denoises_twice(settings: Mapping[str, Any]) -> bool:
    """Whether ``finish`` with these settings calls ``denoise`` on its own output."""
    return max(strengths(settings)) > 1


def is_local(settings: Mapping[str, Any]) -> bool:
    """Whether, with these settings and a local network, a part of a picture gives the same result denoised alone."""
    wide = (settings.get("detail"), settings.get("hot_pixels"), settings.get("banding"), denoises_twice(settings))
    return not any(wide) and settings.get("enlarged", 1) == 1


def strengths(settings: Mapping[str, Any]) -> tuple[float, float]:
    """The strengths of brightness and of colour."""
    return _strengths(settings.get("strength", 1.0), settings.get("luma"), settings.get("colour"))


def _strengths(strength: float, luma: float | None, colour: float | None) -> tuple[float, float]:
    return strength if luma is None else luma, strength if colour is None else colour


def split_settings(net_class: type[Network], settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check ``settings`` and split them into the keywords of the network's own ``denoise`` and those of ``finish``.

    Raises:
        UserError: a keyword that neither has, or a value of a wrong type or range.
    """
    own, common = net_class.denoise_keywords(), parameter_names(finish, GIVEN)
    assert set(common) == set(FINISHING), f"what a weight file may name, {FINISHING}, is not what there is: {common}"
    twice = set(own) & set(common)
    assert not twice, f"{net_class.__name__}.denoise declares {twice}, which every network has"
    unknown = [name for name in settings if name not in (*own, *common)]
    if "k" in unknown:
        raise UserError(
            f"k = {settings['k']}: {net_class.__name__} has no blind spot to choose; leave k out. "
            f"Its settings are {', '.join((*own, *common))}"
        )
    if unknown:
        raise UserError(
            f"{', '.join(unknown)}: not a setting of {net_class.__name__}.denoise; it has {', '.join((*own, *common))}"
        )
    try:
        finishing = check_arguments(finish, {name: settings[name] for name in settings if name in common}, GIVEN)
        return net_class.check_denoise({name: settings[name] for name in settings if name in own}), finishing
    except UserError as error:
        raise UserError(f"{net_class.__name__}.denoise: {'; '.join(str(error).splitlines())}") from None
