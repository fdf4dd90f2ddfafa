"""Several sets as one: their shares, and that nothing but seed and number decides."""

import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atbsn.data import build_dataset
from atbsn.data.base import picture_of
from atbsn.data.folder import write_examples
from atbsn.data.loader import SampleNumbers, train_loader
from atbsn.data.patches import PatchDataset
from atbsn.data.stream import in_turn
from atbsn.options import check_options
from atbsn.pictures import write_picture
from atbsn.utils.errors import UserError

SIZES = {"a": 2, "b": 5, "c": 3}


@pytest.fixture
def sets(tmp_path: Path) -> list[dict[str, Any]]:
    for name, count in SIZES.items():
        write_examples(tmp_path / name, *map(str, range(count)))
    return [{"type": "NoisyFolder", "dataroot": str(tmp_path / name)} for name in SIZES]


def mixed(sets: list[dict[str, Any]], *weights: float) -> Any:
    return build_dataset({"type": "Mixed", "sets": sets, **({"weights": list(weights)} if weights else {})})


def test_names_and_pictures_are_those_of_the_sets(sets: list[dict[str, Any]]) -> None:
    images = mixed(sets, 1, 1, 1)
    assert [images.key(index) for index in range(len(images))] == [
        f"{place}/{number}" for place, count in enumerate(SIZES.values(), 1) for number in range(count)
    ]
    third: Any = build_dataset(sets[2])
    assert np.array_equal(images.read(8).rgb, third.read(1).rgb) and images.source(8) == third.paths[1]


def test_shares_are_exact_in_every_thousand_samples(sets: list[dict[str, Any]]) -> None:
    images = mixed(sets, 1, 2, 5)
    for start in (0, 7000):
        places = Counter(images.key(images.pick(3, number))[0] for number in range(start, start + 1000))
        assert places == {"1": 125, "2": 250, "3": 625}
    uneven = mixed(sets, 1, 1, 1)
    places = Counter(uneven.key(uneven.pick(3, number))[0] for number in range(1000))
    assert sorted(places.values()) == [333, 333, 334]


def test_each_set_visits_its_pictures_in_turn_across_blocks(sets: list[dict[str, Any]]) -> None:
    images = mixed(sets, 1, 2, 5)
    for place, count in enumerate(SIZES.values(), 1):
        drawn = [index for n in range(3000) if images.key(index := images.pick(0, n)).startswith(f"{place}/")]
        epochs = [drawn[start : start + count] for start in range(0, len(drawn) - count, count)]
        assert all(len(set(epoch)) == count for epoch in epochs)
        assert len(set(map(tuple, epochs))) > 1


def test_sets_are_not_drawn_in_a_pattern(sets: list[dict[str, Any]]) -> None:
    images = mixed(sets, 1, 1, 1)
    places = [images.key(images.pick(0, number))[0] for number in range(3000)]
    after = Counter(pairwise(places))
    assert all(250 < count < 420 for count in after.values()) and len(after) == 9


def test_a_pick_is_a_function_of_seed_and_number(sets: list[dict[str, Any]]) -> None:
    first, again = mixed(sets, 1, 2, 5), pickle.loads(pickle.dumps(mixed(sets, 1, 2, 5)))
    numbers = [10**12, 3, 999, 1000, 0, 3]
    assert [first.pick(1, number) for number in numbers] == [again.pick(1, number) for number in reversed(numbers)][
        ::-1
    ]
    assert [first.pick(1, n) for n in range(100)] != [first.pick(2, n) for n in range(100)]
    assert isinstance(first.pick(2**64 - 1, 5), int)


def test_without_weights_every_picture_counts_alike(sets: list[dict[str, Any]]) -> None:
    images = mixed(sets)
    assert [images.pick(4, number) for number in range(30)] == [in_turn(4, number, 10) for number in range(30)]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_do_not_depend_on_workers(sets: list[dict[str, Any]], num_workers: int) -> None:
    def batches(workers: int) -> list[dict[str, Any]]:
        patches = PatchDataset(mixed(sets, 1, 2, 5), 32, seed=1)
        return list(train_loader(patches, SampleNumbers(batch_size=4, total_iter=5), num_workers=workers))

    for batch, expected in zip(batches(num_workers), batches(0), strict=True):
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_a_set_of_eight_and_one_of_sixteen_bits(sets: list[dict[str, Any]], tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 2**16, (40, 40, 3), np.uint16)
    write_picture(tmp_path / "deep" / "a.png", picture_of(samples))
    patches = PatchDataset(mixed([sets[0], {"type": "NoisyFolder", "dataroot": str(tmp_path / "deep")}], 1, 1), 32)
    assert {patches[number]["noisy"].dtype for number in range(8)} == {torch.uint16}


def test_pictures_that_are_too_small_are_left_out_of_each(sets: list[dict[str, Any]], tmp_path: Path) -> None:
    write_picture(tmp_path / "a" / "small.png", picture_of(np.zeros((8, 8, 3), np.uint8)))
    images = mixed(sets, 1, 1, 1)
    assert len(images) == 11
    assert len(PatchDataset(images, 32)) == 10
    assert images.key(2) == "2/0"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "weights: 2 for 3 sets; give one for each, or none"),
        ([1, 1, 5000], "weights: 1 of 5002 in all is less than one sample in 1000; enlarge it"),
        ([1, 1, 0], "weights.2: "),
    ],
)
def test_weights_that_are_none(sets: list[dict[str, Any]], weights: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mixed(sets, *weights)


def test_all_faults_of_the_sets_are_named_before_anything_is_built() -> None:
    options = {
        "name": "x",
        "network": {"type": "StudentA"},
        "datasets": {
            "val": {"type": "Mixed", "sets": [{"type": "NoisyFoldr"}, {"type": "NoisyFolder", "dataroott": "x"}, 3]}
        },
    }
    with pytest.raises(UserError) as caught:
        check_options(options, "x.yml")
    text = str(caught.value)
    assert "datasets.val.sets.0.type: 'NoisyFoldr' is not a registered" in text and "did you mean 'NoisyFolder'" in text
    assert "datasets.val.sets.1.dataroott: unknown" in text and "sets.1.dataroot: " in text
    assert "datasets.val.sets.2: " in text
