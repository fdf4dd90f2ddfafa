"""The base class of all options, and types of theirs."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Decay = Annotated[float, Field(ge=0, lt=1)]
"""Share of a running mean that stays at each step."""

Share = Annotated[float, Field(gt=0, lt=1)]
"""A share of the iterations ``train.total_iter``."""


class Section(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, hide_input_in_errors=True)
