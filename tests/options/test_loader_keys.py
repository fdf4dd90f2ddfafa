"""What belongs to the loader outlives another data set; what belongs to the data set does not."""

from pathlib import Path

import yaml
from helpers.kinds import WriteOptions

from atbsn.options import load_options
from atbsn.options.load import merge


def test_another_training_set_keeps_patches_and_batches(write_options: WriteOptions) -> None:
    path = write_options(datasets={"train": {"use_flip": False}})
    options = load_options(str(path), ["datasets.train.type=NoisyFolder", "datasets.train.dataroot=mine"])
    assert options.dataset("train") == {"type": "NoisyFolder", "dataroot": "mine"}  # split was SimulatedCamera's
    loader = options.loader()
    assert (loader.patch_size, loader.batch_size_per_gpu, loader.num_worker_per_gpu, loader.use_flip) == (
        32,
        2,
        0,
        False,
    )


def test_an_option_file_may_change_them_with_the_set(write_options: WriteOptions, tmp_path: Path) -> None:
    write_options()
    path = tmp_path / "mine.yml"
    train = {"type": "NoisyFolder", "dataroot": "mine", "patch_size": 64}
    path.write_text(yaml.safe_dump({"base": "tiny.yml", "datasets": {"train": train}}))
    assert load_options(str(path)).loader().patch_size == 64


def test_arguments_of_another_class_are_dropped() -> None:
    merged = merge({"type": "A", "width": 8, "patch_size": 32}, {"type": "B", "depth": 2})
    assert merged == {"type": "B", "depth": 2, "patch_size": 32}
