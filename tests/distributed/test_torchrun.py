"""``torchrun train.py`` without ``--launcher pytorch`` is one training of all its processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.kinds import WriteOptions

THREADS = """
import atexit, os, runpy, sys

def count():
    tasks = "/proc/self/task"
    names = [open(f"{tasks}/{task}/comm").read() for task in os.listdir(tasks)]
    print("threads of gloo:", sum("gloo" in name for name in names))

atexit.register(count)
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def torchrun(folder: Path, processes: int, *arguments: str | Path) -> str:
    """What ``torchrun`` of so many processes says on this machine, in ``folder``."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_processes_of_torchrun_join_without_being_told(
    repository: Path, write_options: WriteOptions, tmp_path: Path
) -> None:
    """They used to train the same run one after the other, the second archiving what the first had made."""
    said = torchrun(tmp_path, 2, repository / "train.py", "-opt", write_options(train={"total_iter": 2}))
    assert "on 2 x cpu" in said
    assert [path.name for path in (tmp_path / "experiments").iterdir() if path.is_dir()] == ["tiny"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_no_thread_of_the_group_outlives_the_training(
    repository: Path, write_options: WriteOptions, tmp_path: Path
) -> None:
    """One that does may want the interpreter as it ends, and aborts a process that had finished its training."""
    wrapper = tmp_path / "wrapper.py"
    wrapper.write_text(THREADS, encoding="utf-8")
    options = write_options(train={"total_iter": 1})
    said = torchrun(tmp_path, 1, wrapper, repository / "train.py", "-opt", options, "--launcher", "pytorch")
    assert "threads of gloo: 0" in said
