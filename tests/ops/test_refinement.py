import torch

from atbsn.ops.refinement import random_replacing


def test_is_the_mean_of_the_passes():
    noisy, once = torch.rand(2, 3, 6, 7), torch.rand(2, 3, 6, 7)
    mask = torch.rand(4, 2, 3, 6, 7) < 0.3
    expected = torch.stack([torch.where(each, noisy, once).square() for each in mask]).mean(dim=0)
    torch.testing.assert_close(random_replacing(once, noisy, torch.square, passes=4, mask=mask), expected)
    assert random_replacing(once, noisy, torch.square, passes=0) is once


def test_draws_elements_from_the_generator():
    noisy, once = torch.ones(1, 3, 200, 200), torch.zeros(1, 3, 200, 200)
    drawn = []

    def identity(x):
        drawn.append(x)
        return x

    def refined(seed):
        return random_replacing(once, noisy, identity, 3, 0.16, generator=torch.Generator().manual_seed(seed))

    first = refined(0)
    assert torch.equal(first, refined(0))
    assert not torch.equal(first, refined(1))
    assert all(abs(x.mean() - 0.16) < 0.01 for x in drawn)
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0][:, 0], drawn[0][:, 1])
