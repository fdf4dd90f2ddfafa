"""The processes of a run: which one this is, how many there are, and which device it computes on.

Everything also works without ``torch.distributed``; then there is one process, of rank 0.
"""

import gc
import importlib
import os
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, distributed
from torch.distributed.constants import default_pg_timeout

from atbsn.utils.errors import UserError

Launcher = Literal["none", "pytorch", "slurm"]

_SECONDS_TO_LET_GO = 0.1
"""Time in which the threads of the group may drop the tensors of the last collective, for which they need Python's
lock. PyTorch 2.6 holds the lock while it waits for these threads to end, so both would wait for ever. Chosen by hand:
dropping takes microseconds."""


def start(launcher: Launcher, num_gpu: int | Literal["auto"] = "auto", timeout: int | None = None) -> torch.device:
    """Join the group of processes that ``launcher`` started, and return this process's device.

    A process that ``torchrun`` started joins the others even if ``launcher`` is ``none``. Otherwise it would train the
    same run as they do, and each would archive the other's folder.

    Args:
        num_gpu: number of GPUs that this machine must have; ``"auto"`` takes all there are, 0 computes on the CPU.
        timeout: seconds that a collective may wait for the other processes; by default torch's.

    Raises:
        UserError: there are fewer GPUs than asked for, the launcher's environment is missing or wrong, or the processes
            do not find each other.
    """
    if launcher == "none" and "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = "pytorch"
    if launcher == "slurm":
        _adopt_slurm_environment()
    device = _device(launcher, num_gpu)
    if launcher != "none":
        missing = [key for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if key not in os.environ]
        if missing:
            raise UserError(
                f"--launcher {launcher}: {', '.join(missing)} not set; start through torchrun, or leave --launcher out"
            )
        # DistributedDataParallel imports it anyway. If it is imported while there is a group, the default values of its
        # functions keep that group. Its threads then outlive close() and can abort the process when Python ends.
        importlib.import_module("torch._dynamo")
        # Gloo exchanges objects and tensors on the CPU, so that they never wait for a GPU.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            _join(backend, default_pg_timeout if timeout is None else timedelta(seconds=timeout))
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(
                f"--launcher {launcher}: the processes cannot be joined ({reason}); check RANK, WORLD_SIZE, "
                "MASTER_ADDR and MASTER_PORT, which the launcher sets"
            ) from error
    return device


def _join(backend: str, timeout: timedelta) -> None:
    """Call ``init_process_group(backend)`` so that it also works when ``torchrun`` replaces processes that died.

    It gives the new processes the same store, in which the dead ones have left their addresses. So each generation uses
    its own part of the store, and the next generation begins when all processes of this one have met.
    """
    store, own_rank, size = next(iter(distributed.rendezvous("env://", timeout=timeout)))  # type: ignore[attr-defined]
    generation = store.add("generation", 0)
    part = distributed.PrefixStore(f"generation {generation}", store)  # type: ignore[attr-defined]
    distributed.init_process_group(backend, store=part, rank=own_rank, world_size=size, timeout=timeout)
    barrier()
    if is_main():
        store.add("generation", 1)


def restarted() -> bool:
    """Whether ``torchrun --max-restarts`` started this process in place of one that died."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def close() -> None:
    """Leave the group of processes, and end its threads."""
    if distributed.is_initialized():
        time.sleep(_SECONDS_TO_LET_GO)
        distributed.destroy_process_group()
        gc.collect()  # removes cycles that still refer to the group


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this process, of rank 0, writes files and prints on the console."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes call this."""
    if distributed.is_initialized():
        distributed.barrier()


def gather(value: Any, group: distributed.ProcessGroup | None = None) -> list[Any]:
    """Give every process the ``value`` of all processes, in the order of ranks."""
    if not distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value, group=group)
    return values


def patient_group() -> distributed.ProcessGroup | None:
    """Make a group of all processes for a ``gather`` that some reach hours later than others. All must call it."""
    if not distributed.is_initialized():
        return None
    group = distributed.new_group(backend="gloo", timeout=timedelta(days=365))
    assert isinstance(group, distributed.ProcessGroup), "a group of all processes has this one in it"
    return group


def broadcast(value: Any) -> Any:
    """Give every process the ``value`` of rank 0."""
    if not distributed.is_initialized():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def on_main(action: Callable[[], object]) -> None:
    """Call ``action`` on rank 0 while the others wait. If it raises a ``UserError``, every process ends."""
    fault = None
    if is_main():
        try:
            action()
        except UserError as error:
            fault = str(error)
    fault = broadcast(fault)
    if fault is not None:
        fail_together(fault)


def fail_together(message: str) -> NoReturn:
    """End all processes, which all call this: rank 0 with ``message``, the others with the same exit status."""
    raise UserError(message) if is_main() else SystemExit(2)


def mean_(tensor: Tensor) -> Tensor:
    """Replace ``tensor`` by its mean over the processes, in place."""
    if distributed.is_initialized():
        distributed.all_reduce(tensor)
        tensor /= world_size()
    return tensor


def _device(launcher: Launcher, num_gpu: int | Literal["auto"]) -> torch.device:
    available = torch.cuda.device_count()
    if isinstance(num_gpu, int) and num_gpu > available:
        raise UserError(f"num_gpu: {num_gpu}: this machine offers {available} GPUs; use 'auto', or 0 for the CPU")
    if isinstance(num_gpu, int) and num_gpu > 1 and launcher == "none":
        raise UserError(
            f"num_gpu: {num_gpu}: one process uses one GPU; start {num_gpu} with "
            f"torchrun --nproc_per_node={num_gpu} -m atbsn train -opt ... --launcher pytorch"
        )
    if num_gpu == 0 or available == 0:
        return torch.device("cpu")
    local = _local_rank() if launcher != "none" else 0
    if launcher == "slurm" and available == 1:  # with --gpus-per-task=1 every task sees only its own GPU, as number 0
        local = 0
    usable = available if num_gpu == "auto" else num_gpu
    if local >= usable:
        raise UserError(f"process {local} of this machine has no GPU: {usable} usable; start {usable} processes")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _local_rank() -> int:
    value = os.environ.get("LOCAL_RANK", "0")
    if not value.isdecimal():
        raise UserError(f"LOCAL_RANK: '{value}' is not a number; the launcher sets it")
    return int(value)


def _adopt_slurm_environment() -> None:
    """Set ``torchrun``'s variables from SLURM's; the first node of the job is the master."""
    needed = ["SLURM_PROCID", "SLURM_NTASKS"] + ([] if "MASTER_ADDR" in os.environ else ["SLURM_NODELIST"])
    missing = [key for key in needed if key not in os.environ]
    if missing:
        raise UserError(f"--launcher slurm: {', '.join(missing)} not set; start through srun, or leave --launcher out")
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
    os.environ["LOCAL_RANK"] = os.environ.get("SLURM_LOCALID", "0")
    os.environ.setdefault("MASTER_PORT", "29500")
    if "MASTER_ADDR" not in os.environ:
        nodes = ["scontrol", "show", "hostnames", os.environ["SLURM_NODELIST"]]
        try:
            names = subprocess.run(nodes, capture_output=True, text=True, check=True).stdout.split()
            os.environ["MASTER_ADDR"] = names[0]
        except (OSError, subprocess.CalledProcessError, IndexError) as error:
            raise UserError(f"--launcher slurm: '{' '.join(nodes)}' failed ({error}); set MASTER_ADDR") from error
