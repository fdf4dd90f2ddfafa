"""Brightness and colour of what a denoiser takes off."""

from torch import Tensor

BT601 = (0.299, 0.587, 0.114)
"""Weights of R, G and B in the luma of gamma-corrected values (ITU-R BT.601), as in JPEG."""


def scale_apart(difference: Tensor, luma: float, colour: float) -> Tensor:
    """Scale the brightness Y and the colour of a ``difference`` d of two pictures: luma Y + colour (d - Y).

    Y is the BT.601 luma of d if it has three channels, otherwise the mean of its channels. A single channel has no
    colour.

    Args:
        difference: (..., C, H, W).
        luma, colour: the two factors.
    """
    if luma == colour:
        return difference if luma == 1 else luma * difference
    channels = difference.shape[-3]
    weights = difference.new_tensor(BT601 if channels == 3 else [1 / channels] * channels).view(-1, 1, 1)
    brightness = (difference * weights).sum(dim=-3, keepdim=True)
    return (colour * difference).add_(brightness, alpha=luma - colour)
