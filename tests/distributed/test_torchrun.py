"""``torchrun train.py`` without ``--launcher pytorch`` is one training of all its processes."""

import os
import subprocess
import sys


def test_processes_of_torchrun_join_without_being_told(repository, write_options, tmp_path):
    """They used to train the same run one after the other, the second archiving what the first had made."""
    options = write_options(train={"total_iter": 2})
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        str(repository / "train.py"), "-opt", str(options),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 2 x cpu" in done.stdout
    assert [path.name for path in (tmp_path / "experiments").iterdir() if path.is_dir()] == ["tiny"]
