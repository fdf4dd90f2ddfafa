import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from atbsn.data import folder
from atbsn.data.folder import NoisyFolder, write_examples
from atbsn.data.patches import PatchDataset, to_batch
from atbsn.ops.dihedral import FLIPS, ORIENTATIONS, ROTATIONS, undihedral
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError

SIZES = [(12, 15), (9, 9), (20, 10), (8, 30), (11, 13)]


@pytest.fixture
def images(tmp_path: Path) -> NoisyFolder:
    """Every pixel says where it is: row, column and picture."""
    for number, (height, width) in enumerate(SIZES):
        y, x = np.mgrid[:height, :width]
        rgb = np.stack([y, x, np.full_like(x, number)], axis=2).astype(np.uint8)
        write_picture(tmp_path / f"{number}.png", Picture(rgb))
    return NoisyFolder(tmp_path)


def facts(patches: PatchDataset, number: int) -> tuple[int, int, int, int]:
    sample = patches[number]
    top, left, index = sample["noisy"][0, 0].tolist()
    return index, top, left, sample["orientation"]


def test_a_patch_is_where_and_what_it_says(images: NoisyFolder) -> None:
    patches = PatchDataset(images, 8)
    for number in range(50):
        sample = patches[number]
        index, top, left, _ = facts(patches, number)
        assert sample["index"] == index
        assert sample["noisy"].dtype == torch.uint8
        expected = images.read(index).rgb[top : top + 8, left : left + 8]
        assert np.array_equal(sample["noisy"], expected)


def test_every_epoch_visits_every_picture_once_in_its_own_order(images: NoisyFolder) -> None:
    patches = PatchDataset(images, 8, seed=5)
    orders = [tuple(facts(patches, 5 * epoch + n)[0] for n in range(5)) for epoch in range(40)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len(set(orders)) > 20


def test_every_offset_is_reached_about_equally_often(images: NoisyFolder) -> None:
    patches = PatchDataset(images, 8, use_flip=False, use_rot=False)
    drawn = [facts(patches, number) for number in range(15000)]
    for index, (height, width) in enumerate(SIZES):
        offsets = [(top, left) for i, top, left, _ in drawn if i == index]
        counts = np.zeros((height - 7, width - 7))
        for offset in offsets:
            counts[offset] += 1
        expected = len(offsets) / counts.size
        assert len(offsets) == 3000
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize(
    ("use_flip", "use_rot", "expected"),
    [(True, True, ORIENTATIONS), (True, False, FLIPS), (False, True, ROTATIONS), (False, False, (0,))],
)
def test_orientations(images: NoisyFolder, use_flip: bool, use_rot: bool, expected: tuple[int, ...]) -> None:
    patches = PatchDataset(images, 8, use_flip, use_rot)
    counts = np.bincount([patches[number]["orientation"] for number in range(1600)], minlength=8)
    assert set(np.flatnonzero(counts)) == set(expected)
    assert np.abs(counts[list(expected)] - 1600 / len(expected)).max() < 80


def test_samples_depend_on_seed_and_number_alone(images: NoisyFolder) -> None:
    first, again, other = (PatchDataset(images, 8, seed=seed) for seed in (1, 1, 2))
    numbers = [7, 0, 10**12, 3, 7]
    backwards = {number: facts(again, number) for number in reversed(numbers)}
    assert all(facts(first, number) == backwards[number] for number in numbers)
    same = [facts(first, number) == facts(other, number) for number in range(100)]
    assert sum(same) < 10
    assert len({facts(first, number) for number in range(100)}) > 80
    PatchDataset(images, 8, seed=2**64 - 1)[0]


def test_workers_may_get_a_copy(images: NoisyFolder) -> None:
    patches = PatchDataset(images, 8, seed=3)
    copy = pickle.loads(pickle.dumps(patches))
    assert all(torch.equal(copy[number]["noisy"], patches[number]["noisy"]) for number in range(10))


def test_pictures_smaller_than_the_patch_are_left_out(images: NoisyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(folder.logger, "warning", lambda message, *values: said.append(message % values))
    patches = PatchDataset(images, 10)
    assert [patches.images.key(index) for index in range(len(patches))] == ["0", "2", "4"]
    assert {facts(patches, number)[0] for number in range(30)} == {0, 2, 4}
    assert len(said) == 1 and said[0].startswith("using 3, skipped 2: ")
    assert "1.png (9x9 pixels, smaller than the 10x10 patch)" in said[0] and "3.png (8x30 pixels" in said[0]


def test_where_all_are_smaller_than_the_patch(images: NoisyFolder) -> None:
    with pytest.raises(UserError, match=r"^0: 12x15 pixels \(and 4 more of 5 pictures\).*set patch_size to 8 or less"):
        PatchDataset(images, 21)


@pytest.mark.parametrize(
    ("multiple", "remedy"),
    [
        (4, "set patch_size to 8 or less, or remove small pictures"),
        (32, "remove small pictures: a patch is a multiple of 32, so a side needs 32 at least"),
    ],
)
def test_the_remedy_for_small_pictures_is_one_that_works(images: NoisyFolder, multiple: int, remedy: str) -> None:
    with pytest.raises(UserError, match=f"; {remedy}$"):
        PatchDataset(images, 64, size_multiple=multiple)


def test_pictures_are_decoded_once(images: NoisyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = NoisyFolder.read
    monkeypatch.setattr(NoisyFolder, "read", lambda self, index: reads.append(index) or read(self, index))
    patches = PatchDataset(images, 8)
    for number in range(30):
        patches[number]
    assert sorted(reads) == [0, 1, 2, 3, 4]


def test_batches_are_turned_floats(images: NoisyFolder) -> None:
    patches = PatchDataset(images, 8)
    raw = torch.utils.data.default_collate([patches[number] for number in range(16)])
    noisy = to_batch(raw, "cpu")["noisy"]
    assert noisy.shape == (16, 3, 8, 8)
    assert noisy.dtype == torch.float32
    assert noisy.is_contiguous(memory_format=torch.channels_last)
    upright = undihedral(noisy, raw["orientation"])
    assert torch.equal(upright, raw["noisy"].permute(0, 3, 1, 2).float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_do_not_synchronise_with_the_gpu(images: NoisyFolder) -> None:
    patches = PatchDataset(images, 8)
    raw = torch.utils.data.default_collate([patches[number] for number in range(16)])
    raw = {name: value.pin_memory() for name, value in raw.items()}
    torch.cuda.set_sync_debug_mode("error")
    try:
        noisy = to_batch(raw, "cuda")["noisy"]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(noisy.cpu(), to_batch(raw, "cpu")["noisy"])
    assert noisy.is_contiguous(memory_format=torch.channels_last)


def test_what_cannot_be_read_is_left_out_and_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_examples(tmp_path, "a", "b", "torn")
    torn = tmp_path / "torn.png"
    torn.write_bytes(torn.read_bytes()[:2000])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "clip.mp4").write_bytes(b"")
    said = []
    monkeypatch.setattr(folder.logger, "warning", lambda message, *values: said.append(message % values))
    patches = PatchDataset(NoisyFolder(tmp_path), 8)
    assert [patches.images.key(index) for index in range(len(patches))] == ["a", "b"]
    assert {patches[number]["index"] for number in range(2)} == {0, 1}
    assert len(said) == 2 and "skipped 1: clip.mp4 (a video)" in said[0]
    assert said[1].startswith("using 2, skipped 2: ") and "text.jpg (" in said[1] and "torn.png (" in said[1]


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text(name)
    with pytest.raises(UserError, match=r"no picture can be read; using 0, skipped 2: .*"):
        PatchDataset(NoisyFolder(tmp_path), 8)
