"""NBSN: the ordinary UNet that TM-BSN's and APR-RD's teachers are distilled into (CVPR 2026, AAAI 2025)."""

from torch import Tensor, nn
from torch.nn import functional as F

from atbsn.archs.base import Network, in_full_precision
from atbsn.archs.unet import ConvLReLU, kaiming_init
from atbsn.ops import ways
from atbsn.ops.constant import WHITE
from atbsn.ops.padding import pad_to_multiple
from atbsn.ops.upsampling import upsampled_beside
from atbsn.registry import ARCHS
from atbsn.utils.types import PositiveInt


@ARCHS.register
class NBSN(Network):
    """Student with a linear last layer: 1,021,107 parameters at width 48.

    ``net(noisy)``: (B, 3, H, W), RGB, float in [0, 255], any size (padded to a multiple of 32 by reflection) -> the
    same shape, not clipped. Skips are taken before pooling, and the picture itself is not one of them.

    Args:
        width: channels n of the encoder; the decoder has 2n.
        channels: number of channels of the pictures.
    """

    size_multiple = 32
    enc6: ConvLReLU
    dec1_2: ConvLReLU

    def __init__(self, width: PositiveInt = 48, channels: PositiveInt = 3) -> None:
        super().__init__()
        self.channels = channels
        for level in range(1, 7):
            self.add_module(f"enc{level}", ConvLReLU(channels if level == 1 else width, width, half_plane=False))
        for level in range(5, 0, -1):
            below = width if level == 5 else 2 * width
            self.add_module(f"dec{level}_2", ConvLReLU(below + width, 2 * width, half_plane=False))
            if level > 1:
                self.add_module(f"dec{level}_1", ConvLReLU(2 * width, 2 * width, half_plane=False))
        self.dec1_1 = nn.Conv2d(2 * width, channels, 3, padding=1)
        kaiming_init(self)

    def forward(self, noisy: Tensor) -> Tensor:
        height, width = noisy.shape[-2:]
        x = pad_to_multiple(noisy / WHITE, self.size_multiple)
        skips = []
        for level in range(1, 6):
            x = self.get_submodule(f"enc{level}")(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.enc6(x)
        for level in range(5, 1, -1):
            x = upsampled_beside(x, skips.pop())
            x = self.get_submodule(f"dec{level}_1")(self.get_submodule(f"dec{level}_2")(x))
        if not ways.like_a_gpu(x.device):  # the largest layer: 4 instead of 9 multiplications an up-sampled channel
            x = self.dec1_2.upsampled(x, skips.pop())
        else:
            x = self.dec1_2(upsampled_beside(x, skips.pop()))
        return in_full_precision(self.dec1_1, self.dec1_1.weight, x)[..., :height, :width] * WHITE

    @classmethod
    def recognise(cls, shapes: dict[str, tuple[int, ...]]) -> dict[str, object] | None:
        if "dec1_2.conv.weight" not in shapes or "enc6.conv.weight" not in shapes:
            return None
        return {"width": shapes["enc6.conv.weight"][0], "channels": shapes["enc1.conv.weight"][1]}
