"""``torchrun test.py`` on a folder: its processes share it out, and wait for the slowest before they end."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from helpers.kinds import WriteOptions

from atbsn.pictures import Picture, write_picture


def test_processes_of_torchrun_share_a_folder_out(
    repository: Path, write_options: WriteOptions, tmp_path: Path, assets: Path
) -> None:
    for number in range(12):
        write_picture(tmp_path / "in" / f"{number}.png", Picture(np.full((20, 24, 3), 9 * number, np.uint8)))
    (tmp_path / "in" / "broken.png").write_bytes(b"nothing")
    weights = {"pretrain_network": str(assets / "atbsn_width8.weights.safetensors")}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        str(repository / "test.py"), "-opt", str(write_options(network={"width": 8}, path=weights)),
        "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode != 0 and "exitcode  : 2" in done.stderr, "the broken one; torchrun itself ends with 1"
    assert "12 pictures done" in done.stdout and "broken.png: cannot be read" in done.stdout, done.stdout
    lines = [path.read_text().splitlines() for path in sorted((tmp_path / "out" / "manifest").glob("done-*.jsonl"))]
    assert len(lines) == 2 and sum(map(len, lines)) == 12 and all(lines)
    assert len(list((tmp_path / "out").glob("*.png"))) == 12
