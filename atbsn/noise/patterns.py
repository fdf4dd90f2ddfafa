"""Fine regular patterns. Few photographs have one, and a network that never saw one takes them off as noise."""

import math

import torch
from torch import Tensor

from atbsn.noise.draw import chance, log_uniform, uniform


def regular_pattern(pictures: Tensor) -> Tensor:
    """Cover every picture (B, 3, H, W), on one side of a random line, with stripes, dots or a mesh.

    The pattern is sin(u) or sin(u) sin(v), where u and v are waves of 2.5 to 14 pixels that bend a little. A sigmoid
    makes it soft or sharp, and it changes between two colours in [0, 255]. All ranges were chosen by hand.
    """
    height, width = pictures.shape[-2:]
    y = torch.arange(height, device=pictures.device, dtype=pictures.dtype)[:, None]
    x = torch.arange(width, device=pictures.device, dtype=pictures.dtype)

    def along(angle: Tensor) -> Tensor:
        return x * angle.cos() + y * angle.sin()

    angle = uniform(pictures, 0, math.pi)
    across = angle + math.pi / 2 + uniform(pictures, -0.5, 0.5) * chance(pictures, 0.5)
    period = log_uniform(pictures, 2.5, 14)
    bend = uniform(pictures, 0, 3) * torch.sin(along(uniform(pictures, 0, math.pi)) * uniform(pictures, 0, 0.04))
    turns = 2 * math.pi / period
    first = torch.sin(turns * (along(angle) + bend) + uniform(pictures, 0, 2 * math.pi))
    ratio = torch.where(chance(pictures, 0.5), torch.ones_like(period), log_uniform(pictures, 0.6, 1.6))
    second = torch.sin(turns * ratio * (along(across) + bend) + uniform(pictures, 0, 2 * math.pi))
    wave = first * torch.where(chance(pictures, 0.7), second, torch.ones_like(second))
    share = torch.sigmoid(log_uniform(pictures, 2, 20) * (wave - uniform(pictures, -0.4, 0.4)))
    colours = torch.rand(2, len(pictures), 3, 1, 1, device=pictures.device) * 255
    colours = torch.lerp(colours.mean(dim=2, keepdim=True), colours, uniform(pictures, 0, 1))
    ground = colours[0]
    pattern = torch.lerp(ground, torch.lerp(ground, colours[1], uniform(pictures, 0.1, 1)), share)
    middle = (width * uniform(pictures, 0, 1), height * uniform(pictures, 0, 1))
    side = uniform(pictures, 0, 2 * math.pi)
    covered = (x - middle[0]) * side.cos() + (y - middle[1]) * side.sin() > 0
    return torch.where(covered, pattern, pictures)
