"""Weights under their authors' names as ours."""

from collections.abc import Callable

from torch import Tensor

Recognise = Callable[[dict[str, tuple[int, ...]]], dict[str, object] | None]


def under_our_names(
    recognise: Recognise,
    state: dict[str, Tensor],
    *,
    own: str = "",
    foreign: tuple[str, ...] = ("bsn.",),
    left_out: tuple[str, ...] = ("mask",),
) -> dict[str, Tensor] | None:
    """An authors' state dict whose names differ from ours by a prefix and by what needs not be stored.

    Args:
        recognise: of the network.
        own: prefix of our names.
        foreign: prefixes that the authors' names may have in its place.
        left_out: what tensors that are no weights, such as masks and copies, have between the dots of their names.

    Returns:
        None if the names are ours already, or another network's.
    """
    kept = {name: tensor for name, tensor in state.items() if not set(left_out) & set(name.split("."))}
    for prefix in (own, *foreign):
        if any(name.startswith(prefix) for name in kept):
            renamed = {own + name.removeprefix(prefix): tensor for name, tensor in kept.items()}
            if recognise({name: tuple(tensor.shape) for name, tensor in renamed.items()}) is not None:
                return None if renamed.keys() == state.keys() else renamed
    return None
