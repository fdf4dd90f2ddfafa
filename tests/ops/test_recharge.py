import torch

from atbsn.ops.recharge import recharge


def test_one_target_a_pixel_becomes_the_noisy_value() -> None:
    targets, noisy = torch.rand(5, 2, 3, 8, 9), torch.rand(2, 3, 8, 9)
    index = torch.randint(5, (2, 8, 9))
    before = targets.clone()
    recharged = recharge(targets, noisy, index)
    assert torch.equal(targets, before)
    for picture in range(2):
        for row in range(8):
            for column in range(9):
                for teacher in range(5):
                    taken = noisy if teacher == index[picture, row, column] else targets[teacher]
                    expected = taken[picture, :, row, column]
                    assert torch.equal(recharged[teacher, picture, :, row, column], expected)


def test_every_teacher_is_drawn_alike() -> None:
    torch.manual_seed(0)
    targets, noisy = torch.zeros(4, 2, 3, 64, 64), torch.ones(2, 3, 64, 64)
    recharged = recharge(targets, noisy)
    assert torch.equal(recharged.sum(dim=0), noisy)
    shares = recharged.mean(dim=(1, 2, 3, 4))
    assert (shares - 0.25).abs().max() < 0.02
    assert not torch.equal(recharge(targets, noisy), recharged)
