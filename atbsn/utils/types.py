"""Types whose range is checked where options name them."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator

from atbsn.ops.blind_spot import blind_spot_shift


def _check_blind_spot(k: int) -> int:
    blind_spot_shift(k)
    return k


PositiveInt = Annotated[int, Gt(0), Lt(2**31)]
NonNegativeInt = Annotated[int, Ge(0), Lt(2**31)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
BlindSpot = Annotated[int, AfterValidator(_check_blind_spot)]
"""A blind spot k: 0 or odd."""
