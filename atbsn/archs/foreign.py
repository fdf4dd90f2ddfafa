"""Conversion of weights from their authors' names to ours."""

from collections.abc import Callable

from torch import Tensor

Recognise = Callable[[dict[str, tuple[int, ...]]], dict[str, object] | None]
"""The ``recognise`` of a network."""


def under_our_names(
    recognise: Recognise,
    state: dict[str, Tensor],
    *,
    own: str = "",
    foreign: tuple[str, ...] = ("bsn.",),
    left_out: tuple[str, ...] = ("mask",),
) -> dict[str, Tensor] | None:
    """Convert an authors' state dict whose names differ from ours by a prefix and by tensors that are no weights.

    Args:
        recognise: the ``recognise`` of the network.
        own: prefix of our names.
        foreign: prefixes that the authors' names may have in its place.
        left_out: parts of dotted names that mark tensors that are no weights, such as masks and copies.

    Returns:
        The weights under our names. None if the names are ours already, or another network's.
    """
    kept = {name: tensor for name, tensor in state.items() if not set(left_out) & set(name.split("."))}
    for prefix in (own, *foreign):
        if any(name.startswith(prefix) for name in kept):
            renamed = {own + name.removeprefix(prefix): tensor for name, tensor in kept.items()}
            if recognise({name: tuple(tensor.shape) for name, tensor in renamed.items()}) is not None:
                return None if renamed.keys() == state.keys() else renamed
    return None
