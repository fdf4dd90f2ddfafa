"""Types of options, whose ranges are checked when an option file is read."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

PositiveInt = Annotated[int, Gt(0), Lt(2**31)]
NonNegativeInt = Annotated[int, Ge(0), Lt(2**31)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]

Hole = int | Literal["mean"]
"""A blind spot to denoise with; ``mean`` is the mean over the network's published family."""

Precision = Literal["fp32", "bf16", "fp16"]
"""Number type that a network computes with; its weights stay float32."""
