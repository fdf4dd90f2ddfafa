"""Where a type has to stay as it is."""

from contextlib import AbstractContextManager, nullcontext

import torch


def outside_autocast(device: torch.device) -> AbstractContextManager[object]:
    """The context in which operators on ``device`` compute in the types they are given."""
    if device.type == "meta":  # has shapes alone, and no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
