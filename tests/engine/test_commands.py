"""How a command ends: its exit status, and what it says of failures that are not ours."""

import errno
import os
from typing import Any

import pytest
import torch
from torch._inductor.exc import CppCompileError

from atbsn.app.arguments import command_parser
from atbsn.engine.commands import run_command
from atbsn.utils import dist
from atbsn.utils.arguments import EXIT_STATUS
from atbsn.utils.errors import UserError


def ending(capsys: pytest.CaptureFixture[str], error: BaseException | int | None) -> tuple[int | str, str]:
    def main() -> int | None:
        if isinstance(error, BaseException):
            raise error
        return error

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    captured = capsys.readouterr()
    return caught.value.code, captured.out + captured.err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (None, 0, ""),
        (143, 143, ""),
        (UserError("x: no; y"), 2, "ERROR: x: no; y"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.b"),
            2,
            "a.b: No such file or directory; check the",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "a.b"), 2, "a.b: No space left on device; free some space"),
        (OSError(errno.EMFILE, "Too many open files"), 2, "ulimit -n"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 2, "num_worker_per_gpu"),
        (OSError("odd"), 2, "ERROR: odd; check"),
        (MemoryError(), 2, "out of memory (MemoryError); set batch_size_per_gpu"),
        (CppCompileError(["g++"], "no such command"), 2, "set train.compile, test.compile to false"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            2,
            "out of memory (CUDA out of memory.",
        ),
    ],
)
def test_endings(capsys: pytest.CaptureFixture[str], error: Any, status: int, said: str) -> None:
    ended, output = ending(capsys, error)
    assert ended == status and said in output and "Traceback" not in output


def test_too_much_memory_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    status, output = ending(capsys, caught.value)
    assert status == 2 and "out of memory" in output


@pytest.mark.parametrize("error", [RuntimeError("a defect"), ValueError("Connection reset by peer"), KeyError("x")])
def test_defects_keep_their_traceback(error: Exception) -> None:
    def main() -> None:
        raise error

    with pytest.raises(type(error)):
        run_command(main)


def test_the_help_tells_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_parser("train").parse_args(["--help"])
    assert caught.value.code == 0 and EXIT_STATUS in capsys.readouterr().out


@pytest.mark.parametrize(
    ("launcher", "environment", "said"),
    [
        (
            "pytorch",
            {},
            "--launcher pytorch: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set; start through torchrun",
        ),
        ("pytorch", {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}, "MASTER_PORT not set"),
        (
            "pytorch",
            {"RANK": "x", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
            "the processes cannot be joined",
        ),
        ("slurm", {}, "--launcher slurm: SLURM_PROCID, SLURM_NTASKS, SLURM_NODELIST not set; start through srun"),
        (
            "slurm",
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_NODELIST": "a[1-2]"},
            "'scontrol show hostnames a[1-2]' failed",
        ),
    ],
)
def test_launchers_that_were_not_there(
    monkeypatch: pytest.MonkeyPatch, launcher: Any, environment: dict[str, str], said: str
) -> None:
    for name in list(os.environ):
        if name.startswith(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "SLURM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"):  # what start() sets is taken back
        monkeypatch.setenv(name, environment.get(name, ""))
        if name not in environment:
            monkeypatch.delenv(name)
    with pytest.raises(UserError) as caught:
        dist.start(launcher, 0)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("launcher", "available", "device"), [("slurm", 1, 0), ("slurm", 4, 3), ("pytorch", 4, 3), ("pytorch", 1, None)]
)
def test_slurm_may_show_every_task_its_own_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, launcher: Any, available: int, device: int | None
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: available)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    if device is None:
        with pytest.raises(UserError, match="process 3 of this machine has no GPU"):
            dist._device(launcher, "auto")
    else:
        assert dist._device(launcher, "auto") == torch.device("cuda", device)


@pytest.mark.parametrize(("count", "restarted"), [(None, False), ("0", False), ("2", True)])
def test_torchrun_tells_of_restarts(monkeypatch: pytest.MonkeyPatch, count: str | None, restarted: bool) -> None:
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    if count is not None:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
    assert dist.restarted() is restarted
