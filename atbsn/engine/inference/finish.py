"""What may be done to the output of any network: keywords that every ``denoise`` has beside its own."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from torch import Tensor

from atbsn.archs.base import FINISHING, Network
from atbsn.ops.detail import return_detail
from atbsn.registry.build import check_arguments, parameter_names
from atbsn.utils.errors import UserError
from atbsn.utils.types import Fraction

_GIVEN = ("noisy", "clean")


def finish(
    noisy: Tensor,
    clean: Tensor,
    *,
    strength: Annotated[float, Ge(0), Le(2)] = 1.0,
    detail: Literal["auto"] | Fraction = 0.0,
) -> Tensor:
    """What is given for ``noisy``, (..., 3, H, W) in [0, 255], where the network gave ``clean``; the same shape.

    Args:
        detail: the share, 0 to 1, of what the network took off although noise cannot explain it that is given back
            first (``return_detail``). ``auto``: all of it where the network leaves hardly any noise, otherwise none.
        strength: how much of what the network takes off is taken off: noisy + strength (clean - noisy). 0 gives the
            noisy picture itself, 1 the network's output with its detail, up to 2 more than that.
    """
    clean = clean.to(noisy.dtype)
    if strength != 0:
        clean = return_detail(noisy, clean, detail)
    if strength == 1:
        return clean
    return noisy.expand_as(clean) if strength == 0 else noisy.lerp(clean, strength)


def split_settings(net_class: type[Network], settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """``settings``, checked, as the keywords of the network's own ``denoise`` and those of ``finish``.

    Raises:
        UserError: a keyword that neither has, or a value of the wrong type or range.
    """
    own, common = net_class.denoise_keywords(), parameter_names(finish, _GIVEN)
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
        finishing = check_arguments(finish, {name: settings[name] for name in settings if name in common}, _GIVEN)
        return net_class.check_denoise({name: settings[name] for name in settings if name in own}), finishing
    except UserError as error:
        raise UserError(f"{net_class.__name__}.denoise: {'; '.join(str(error).splitlines())}") from None
