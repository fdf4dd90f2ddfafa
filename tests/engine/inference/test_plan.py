"""What a device is given to do: made-up cards of 8, 24 and 80 GB, and the CPU."""

import math

import pytest
import torch

from atbsn.engine.inference.plan import SHARE, UNKNOWN, WIDE, WORKING, ComputeOptions, DeviceFacts, DevicePlan

GB = 2**30
CARDS = {
    "8 GB": DeviceFacts("cuda", int(7.2 * GB), (8, 6)),
    "24 GB": DeviceFacts("cuda", 23 * GB, (8, 9)),
    "80 GB": DeviceFacts("cuda", 78 * GB, (9, 0)),
}
CPU = DeviceFacts("cpu")
PHOTOGRAPH = (3000, 4000)
PHOTONET, STUDENT, TEACHER = 230.0, 830.0, 3600.0
"""Bytes a pixel of real, student C and AT-BSN in bfloat16, rounded."""


@pytest.mark.parametrize("card", CARDS)
def test_twelve_megapixels_of_the_photographs_network_are_done_whole(card: str) -> None:
    plan = DevicePlan.make(CARDS[card], ComputeOptions(overlap=64), PHOTOGRAPH, PHOTONET)
    assert (plan.tile, plan.batch_size, plan.precision, plan.capture, plan.resident) == (None, 1, "bf16", True, True)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("bytes_per_pixel", [PHOTONET, STUDENT, TEACHER, UNKNOWN])
@pytest.mark.parametrize("overlap", [0, 32, 120])
@pytest.mark.parametrize("size", [PHOTOGRAPH, (4000, 3000), (8700, 11600), (512, 512), (70, 90_000), (1, 1)])
def test_what_is_computed_at_once_fits_and_covers_the_picture(
    card: str, bytes_per_pixel: float, overlap: int, size: tuple[int, int]
) -> None:
    facts = CARDS[card]
    plan = DevicePlan.make(facts, ComputeOptions(overlap=overlap), size, bytes_per_pixel)
    rows, columns = plan.tiler().rows(size[0]), plan.tiler().columns(size[1])
    at_once = math.prod(max(end - start for start, end in each) for each in (rows, columns))
    budget = min(WORKING, SHARE * facts.free_memory)
    least = (max(4 * overlap, 64) + 32) ** 2  # below that, what is computed twice would outweigh the rest
    assert at_once * plan.batch_size <= max(budget / bytes_per_pixel, least)
    computed = len(rows) * len(columns) * at_once
    assert computed <= 4 * math.prod(size)
    if math.prod(size) * bytes_per_pixel <= budget:
        assert plan.tile is None


def test_parts_are_no_more_than_needed() -> None:
    """8 GB halve the budget: 4.6 million pixels of student C at once; three parts cover 12, and overlap by ``WIDE``."""
    plan = DevicePlan.make(CARDS["8 GB"], ComputeOptions(overlap=32), PHOTOGRAPH, STUDENT, multiple=32)
    assert len(plan.tiler().rows(3000)) * len(plan.tiler().columns(4000)) == 3
    assert 3 * math.prod(plan.tile) < 1.11 * math.prod(PHOTOGRAPH)
    assert plan.overlap == WIDE and plan.sizes == "fitted"


def test_tiles_that_are_asked_for_come_in_batches_that_fit() -> None:
    asked = ComputeOptions(tile=256, overlap=32)
    few, many = (DevicePlan.make(CARDS[card], asked, PHOTOGRAPH, TEACHER) for card in ("8 GB", "80 GB"))
    assert few.tile == many.tile == (256, 256)
    assert few.batch_size == int(3.6 * GB / TEACHER) // 256**2 == 16
    assert many.batch_size == int(4 * GB / TEACHER) // 256**2 == 18
    assert DevicePlan.make(CARDS["80 GB"], asked, (256, 400), TEACHER).batch_size == 2, "no more than there are"
    assert DevicePlan.make(CARDS["80 GB"], asked, (256, 256), TEACHER).batch_size == 1


@pytest.mark.parametrize("card", CARDS)
def test_a_network_that_sees_its_whole_tile_keeps_the_size_it_is_used_to(card: str) -> None:
    asked = ComputeOptions(overlap=64, usual_tile=160)
    plan = DevicePlan.make(CARDS[card], asked, PHOTOGRAPH, PHOTONET, sees_whole_tile=True)
    assert plan.tile == (160, 160) and plan.batch_size > 100


@pytest.mark.parametrize("facts", [*CARDS.values(), CPU])
def test_what_a_user_asks_for_lies_over_it(facts: DeviceFacts) -> None:
    asked = ComputeOptions(tile="none", batch_size=3, precision="fp32", capture=False)
    plan = DevicePlan.make(facts, asked, (9000, 9000), UNKNOWN)
    assert (plan.tile, plan.batch_size, plan.precision, plan.capture) == (None, 3, "fp32", False)
    plan = DevicePlan.make(facts, ComputeOptions(tile=200, overlap=20), PHOTOGRAPH, UNKNOWN)
    assert (plan.tile, plan.overlap) == ((200, 200), 20)


def test_a_cpu_takes_as_many_pixels_as_a_usual_tile_has() -> None:
    asked = ComputeOptions(usual_tile=384)
    plan = DevicePlan.make(CPU, asked, PHOTOGRAPH, 1.0)
    assert 0.9 * 384**2 < math.prod(plan.tile) <= 384**2
    assert (plan.batch_size, plan.precision, plan.capture, plan.resident, plan.overlap) == (1, "fp32", False, False, 32)
    assert DevicePlan.make(CPU, asked, (144, 1024), 1.0).tile is None
    assert DevicePlan.make(CPU, asked, PHOTOGRAPH, 1.0, sees_whole_tile=True).tile == (384, 384)


def test_tiles_have_one_size_where_that_matters() -> None:
    """To graphs for every size of pictures, to a compiled network for all of them. Others end a little shorter."""
    for facts, compiled, sizes in ((CPU, False, "any"), (CPU, True, "one"), (CARDS["8 GB"], False, "fitted")):
        plan = DevicePlan.make(facts, ComputeOptions(), (3000, 4009), TEACHER, multiple=32, compiled=compiled)
        columns = plan.tiler().columns(4009)
        assert len(columns) > 1 and plan.sizes == sizes
        assert (len({end - start for start, end in columns}) == 1) is (sizes != "any")
    assert DevicePlan.make(CPU, ComputeOptions(), (3000, 4009), TEACHER, compiled=True).tile == (256, 256)


@pytest.mark.parametrize(
    ("facts", "precision"),
    [
        (DeviceFacts("cuda", GB, (9, 0)), "bf16"),
        (DeviceFacts("cuda", GB, (8, 0)), "bf16"),
        (DeviceFacts("cuda", GB, (7, 5)), "fp32"),  # would emulate it
        (DeviceFacts("cpu", bf16=True), "bf16"),
        (DeviceFacts("cpu"), "fp32"),
        (DeviceFacts("mps"), "fp32"),
        (DeviceFacts("cuda", GB), "fp32"),  # a card that says nothing of itself
    ],
)
def test_bf16_is_taken_where_the_device_has_it(facts: DeviceFacts, precision: str) -> None:
    assert facts.precision == precision
    assert DevicePlan.make(facts, ComputeOptions(), (64, 64)).precision == precision


def test_a_picture_larger_than_the_card_stays_on_the_cpu() -> None:
    facts = CARDS["8 GB"]
    assert DevicePlan.make(facts, ComputeOptions(), (6000, 6000), PHOTONET).resident
    assert not DevicePlan.make(facts, ComputeOptions(), (8000, 8000), PHOTONET).resident
    assert DevicePlan.make(CARDS["80 GB"], ComputeOptions(), (8000, 8000), PHOTONET).resident


def test_the_facts_of_this_machine() -> None:
    facts = DeviceFacts.of(torch.device("cpu"))
    assert facts.kind == "cpu" and facts.precision in ("bf16", "fp32")


def test_the_facts_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is free of it counts, and what the process holds without using it; not what there is in all."""
    for name, value in (
        ("memory_reserved", 6 * GB), ("memory_allocated", 4 * GB), ("mem_get_info", (10 * GB, 80 * GB)),
        ("get_device_capability", (9, 0)),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert DeviceFacts.of(torch.device("cuda", 0)) == DeviceFacts("cuda", 12 * GB, (9, 0))
