"""AP-BSN, SDAP, Neighbor2Neighbor, Blind2Unblind and SASS's U-Net written plainly: the baseline of their speed.

They follow the papers (arXiv 2203.11799, 2307.16825, 2101.02824, 2203.06967, 2303.14934): masks are written into the
weights in every pass, phases are computed one after the other, the terms of R3 and the masked copies in a loop, and
SDAP's permutations are drawn cell by cell. They compute in float32, NCHW, eager. Their state dicts are those of
``atbsn.archs``.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedConv(nn.Conv2d):
    """Convolution whose centre tap is set to zero in the weight itself."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones_like(self.weight)
        mask[:, :, self.kernel_size[0] // 2, self.kernel_size[1] // 2] = 0
        self.weight.data *= mask
        return super().forward(x)


class Module(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Branch(nn.Module):
    def __init__(self, width: int, dilation: int, num_modules: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [MaskedConv(width, width, 2 * dilation - 1, padding=dilation - 1), nn.ReLU()]
        for _ in range(2):
            layers += [nn.Conv2d(width, width, 1), nn.ReLU()]
        layers += [Module(width, dilation) for _ in range(num_modules)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, width, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class DBSNl(nn.Module):
    """The blind-spot network of AP-BSN, for pictures of any scale."""

    def __init__(self, width: int = 128, num_modules: int = 9) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU())
        self.branch1, self.branch2 = Branch(width, 2, num_modules), Branch(width, 3, num_modules)
        channels = (2 * width, width, width // 2, width // 2)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 1), nn.ReLU()]
        self.tail = nn.Sequential(*layers, nn.Conv2d(width // 2, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        return self.tail(torch.cat([self.branch1(x), self.branch2(x)], dim=1))


class APBSN(nn.Module):
    def __init__(self, width: int = 128, num_modules: int = 9) -> None:
        super().__init__()
        self.bsn = DBSNl(width, num_modules)

    def forward(self, x: Tensor, pd: int = 2) -> Tensor:
        rows = []
        for row in range(pd):
            rows.append(torch.cat([F.pad(x[:, :, row::pd, column::pd], (2, 2, 2, 2)) for column in range(pd)], dim=3))
        tiles = self.bsn(torch.cat(rows, dim=2))
        output = torch.empty_like(x)
        height, width = (side // pd for side in tiles.shape[2:])
        for row in range(pd):
            for column in range(pd):
                tile = tiles[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width]
                output[:, :, row::pd, column::pd] = tile[:, :, 2:-2, 2:-2]
        return output

    def denoise(self, noisy: Tensor, times: int = 8, p: float = 0.16) -> Tensor:
        """Denoise with R3; sides must be even."""
        estimate = self(noisy)
        terms = []
        for _ in range(times):
            mixed = torch.where(torch.rand_like(noisy) < p, noisy, estimate)
            terms.append(self.bsn(F.pad(mixed, (2, 2, 2, 2), mode="reflect"))[:, :, 2:-2, 2:-2])
        return torch.stack(terms).mean(dim=0)


class SDAP(DBSNl):
    """SDAP's network for [0, 1]; ``denoise`` takes and returns [0, 255]."""

    def denoise(self, noisy: Tensor) -> Tensor:
        """Denoise by SDAP (E); sides must be even."""
        output = torch.empty_like(noisy)
        for row in range(2):
            for column in range(2):
                output[:, :, row::2, column::2] = self(noisy[:, :, row::2, column::2] / 255)
        return self(output) * 255


class Decoder(nn.Module):
    def __init__(self, in_channels: int, channels: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x), self.slope)), self.slope)


class UNet(nn.Module):
    """A U-Net for [0, 1], or for [0, 255] if ``sass``; ``denoise`` takes and returns [0, 255].

    Sides are multiples of 32.
    """

    def __init__(self, variant: str = "n2n", width: int = 48) -> None:
        super().__init__()
        self.slope = 0.2 if variant == "n2n" else 0.1
        self.scale = 1 if variant == "sass" else 255
        last = 96 if variant == "n2n" else 2 * width
        below, skips = (width, *[2 * width] * 4), (*[width] * 4, 3)
        self.enc = nn.ModuleList(nn.Conv2d(width if i else 3, width, 3, padding=1) for i in range(7))
        self.transposed = variant == "n2n"
        if self.transposed:
            self.up = nn.ModuleList(nn.ConvTranspose2d(channels, channels, 2, stride=2) for channels in below)
        self.dec = nn.ModuleList()
        for stage, (channels, skip) in enumerate(zip(below, skips, strict=True)):
            after = last if stage == 4 else 2 * width
            self.dec.append(Decoder(channels + skip, after, self.slope))
        self.head = nn.ModuleList(nn.Conv2d(last, last, 1) for _ in range(0 if variant == "sass" else 2))
        self.head.append(nn.Conv2d(last, 3, 1))

    def forward(self, image: Tensor) -> Tensor:
        x = F.leaky_relu(self.enc[0](image), self.slope)
        skips = [image]
        for conv in self.enc[1:6]:
            x = F.max_pool2d(F.leaky_relu(conv(x), self.slope), 2)
            skips.append(x)
        x = F.leaky_relu(self.enc[6](x), self.slope)
        for stage, (decoder, skip) in enumerate(zip(self.dec, skips[4::-1], strict=True)):
            x = self.up[stage](x) if self.transposed else F.interpolate(x, scale_factor=2.0)
            x = decoder(torch.cat([x, skip], dim=1))
        for conv in self.head[:-1]:
            x = F.leaky_relu(conv(x), self.slope)
        return self.head[-1](x)

    def denoise(self, noisy: Tensor) -> Tensor:
        return self(noisy / self.scale) * self.scale

    def denoise_visible(self, noisy: Tensor, beta: float = 20.0) -> Tensor:
        """Mix the blind pass and the plain one as Blind2Unblind does."""
        y = noisy / self.scale
        return (blind_pass(self, y) + beta * self(y)) / (1 + beta) * self.scale


def blind_pass(net: nn.Module, y: Tensor) -> Tensor:
    """Blind2Unblind's h: a pass for each of the sixteen positions of a 4 x 4 cell."""
    kernel = torch.tensor([[0.5, 1, 0.5], [1, 0, 1], [0.5, 1, 0.5]]).to(y).expand(3, 1, 3, 3) / 6
    smooth = F.conv2d(y, kernel, padding=1, groups=3)
    output = torch.zeros_like(y)
    for position in range(16):
        mask = torch.zeros_like(y)
        mask[:, :, position // 4 :: 4, position % 4 :: 4] = 1
        output = output + net(y * (1 - mask) + smooth * mask) * mask
    return output


def apbsn_loss(net: APBSN, noisy: Tensor) -> Tensor:
    return (net(noisy, pd=5) - noisy).abs().mean()


def sdap_loss(net: SDAP, noisy: Tensor) -> Tensor:
    y = noisy / 255
    batch, _, height, width = y.shape
    subs = [y.new_empty(batch, 3, height // 5, width // 5) for _ in range(25)]
    for number in range(batch):
        for row in range(height // 5):
            for column in range(width // 5):
                cell = y[number, :, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5].flatten(1)
                for sub, position in zip(subs, torch.randperm(25).tolist(), strict=True):
                    sub[number, :, row, column] = cell[:, position]
    targets = (*subs[1:], subs[0])
    return sum((net(sub) - target).abs().mean() for sub, target in zip(subs, targets, strict=True))


def neighbor2neighbor_loss(net: UNet, noisy: Tensor, gamma: float = 1.0) -> Tensor:
    y = noisy / 255
    with torch.no_grad():
        clean = net(y)
    pairs = ((0, 1), (0, 2), (1, 3), (2, 3), (1, 0), (2, 0), (3, 1), (3, 2))
    index = torch.tensor(pairs, device=y.device)[torch.randint(8, (len(y), 1, y.shape[2] // 2, y.shape[3] // 2))]
    pictures = []
    for picture in (y, clean):
        cells = torch.stack([picture[:, :, i // 2 :: 2, i % 2 :: 2] for i in range(4)], dim=-1)
        pictures += [cells.gather(-1, index[..., i : i + 1].expand(-1, 3, -1, -1, -1))[..., 0] for i in range(2)]
    first, second, clean_first, clean_second = pictures
    difference = net(first) - second
    return difference.square().mean() + gamma * (difference - (clean_first - clean_second)).square().mean()


def blind2unblind_loss(net: UNet, noisy: Tensor, beta: float = 2.0) -> Tensor:
    y = noisy / 255
    with torch.no_grad():
        plain = net(y) - y
    blind = blind_pass(net, y) - y
    return blind.square().mean() + (blind + beta * plain).square().mean()
