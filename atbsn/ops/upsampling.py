"""Up-sampling by nearest neighbours, and a convolution of what was up-sampled, without doing it."""

from torch import Tensor
from torch.nn import functional as F

from atbsn.ops.autocast import outside_autocast


def upsample_nearest(x: Tensor) -> Tensor:
    """``x`` (B, C, H, W), every pixel in 2 x 2 places, in the type of ``x``.

    Autocast on a GPU would make float32 of it: twice the bytes here and in the concatenation that follows, and a copy
    back for the convolution.
    """
    with outside_autocast(x.device):
        return F.interpolate(x, scale_factor=2.0, mode="nearest")


def upsampling_kernel(weight: Tensor) -> Tensor:
    """The kernel of a transposed convolution that up-samples x2 and convolves with ``weight`` (C', C, 3, 3) at once.

    An up-sampled picture shows every pixel in 2 x 2 places, so the taps that meet it there can be added up
    beforehand: 4 instead of 9 multiplications a pixel. With zero padding, up to rounding::

        conv2d(upsampled(x), weight, padding=1) = conv_transpose2d(x, upsampling_kernel(weight), stride=2, padding=1)

    Returns:
        (C, C', 4, 4): sums over 2 x 2 taps, upside down as transposed convolutions have them.
    """
    return 4 * F.avg_pool2d(weight, 2, stride=1, padding=1).flip((2, 3)).transpose(0, 1)
