import torch
from torch.nn import functional as F

from atbsn.ops.refinement import random_replacing_refinement, replacement_masks


def test_is_the_mean_of_the_passes_within_a_reflected_margin() -> None:
    noisy, once = torch.rand(2, 3, 6, 7), torch.rand(2, 3, 6, 7)
    masks = torch.rand(5, 2, 3, 6, 7) < 0.3

    def blurred(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 5, stride=1, padding=2)

    for margin in (0, 2):
        terms = []
        for mask in masks:
            mixed = torch.where(mask, noisy, once)
            padded = F.pad(mixed, (margin,) * 4, mode="reflect") if margin else mixed
            terms.append(blurred(padded)[..., margin : margin + 6, margin : margin + 7])
        for at_once in (1, 2, 5):
            refined = random_replacing_refinement(blurred, noisy, once, masks, at_once, margin)
            torch.testing.assert_close(refined, torch.stack(terms).mean(dim=0))


def test_masks_are_drawn_for_every_element_from_the_generator() -> None:
    noisy = torch.zeros(1, 3, 200, 200)

    def draw(seed: int) -> list[torch.Tensor]:
        return list(replacement_masks(noisy, 3, 0.16, torch.Generator().manual_seed(seed)))

    first, again, other = draw(0), draw(0), draw(1)
    assert len(first) == 3
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0][:, 0], first[0][:, 1])
    assert all(abs(mask.float().mean() - 0.16) < 0.01 for mask in first)
