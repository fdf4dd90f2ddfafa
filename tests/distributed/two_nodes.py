"""Two nodes on one Linux machine: network namespaces joined by a virtual cable, with addresses of their own.

``python tests/distributed/two_nodes.py`` (as root) measures what exchanging gradients between them costs, for
docs/scaling.md. Nothing outside the two namespaces is touched; they are removed at the end.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ADDRESSES = ("10.77.0.1", "10.77.0.2")
_PORT = 29400
_TCP_RETRIES = 5
"""About 13 seconds."""


class TwoNodes:
    """Context in which there are two nodes, 0 and 1; what runs there is killed at its end.

    Raises:
        OSError: this system or user cannot make network namespaces.
    """

    def __init__(self) -> None:
        self.names = tuple(f"atbsn{os.getpid()}n{node}" for node in (0, 1))
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "TwoNodes":
        if shutil.which("ip") is None:
            raise OSError("no command 'ip'; install iproute2")
        try:
            for name in self.names:
                _ip("netns", "add", name)
            _ip(
                "link", "add", "cable", "netns", self.names[0], "type", "veth",
                "peer", "name", "cable", "netns", self.names[1],
            )  # fmt: skip
            for name, address in zip(self.names, ADDRESSES, strict=True):
                _ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
                _ip("-n", name, "link", "set", "cable", "up")
                _ip("-n", name, "link", "set", "lo", "up")
                # Linux sends an unanswered packet again for 15 minutes; torchrun waits as long for a node that is gone.
                _ip("netns", "exec", name, "sh", "-c", f"echo {_TCP_RETRIES} > /proc/sys/net/ipv4/tcp_retries2")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            raise OSError(f"network namespaces are not allowed here: {error.stderr.strip()}") from None
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            kill(process)
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def start(
        self, node: int, command: list[str], folder: Path, log: Path, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Run a command on a node, in a process group of its own, its output to ``log``."""
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.names[node], *command], cwd=folder, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **threads, "GLOO_SOCKET_IFNAME": "cable", **environment},
            )  # fmt: skip
        self._processes.append(process)
        return process

    def torchrun(
        self, node: int, arguments: list[str], folder: Path, log: Path, restarts: int = 0, **environment: str
    ) -> subprocess.Popen[bytes]:
        """``torchrun`` with one process on this node, of a job of two nodes that meet at node 0.

        Torch 2.15 keeps the address of the first meeting on the nodes that live on, and a node that comes back
        waits for it in vain, unless TORCH_DISABLE_SHARE_RDZV_TCP_STORE is set.
        """
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1",
            f"--max-restarts={restarts}", "--rdzv_backend=c10d", "--rdzv_id=test",
            f"--rdzv_endpoint={ADDRESSES[0]}:{_PORT}",
            f"--rdzv_conf=is_host={int(node == 0)},read_timeout=20", f"--local_addr={ADDRESSES[node]}",
            "--monitor-interval=0.5", *arguments,
        ]  # fmt: skip
        return self.start(node, command, folder, log, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1", **environment)

    def cut(self) -> None:
        """Pull the cable: packets vanish, and nobody is told."""
        _ip("-n", self.names[0], "link", "set", "cable", "down")


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a started command, and to all that it started in its session."""
    members = subprocess.run(
        ["ps", "-o", "pid=", "--sid", str(process.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    children = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    tree, parents = {process.pid, *map(int, members)}, [tuple(map(int, line.split())) for line in children]
    while new := {child for child, parent in parents if parent in tree} - tree:
        tree |= new
    for number in tree:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)


_MEASURE = """
import os, sys, time, torch, torch.distributed as d
from statistics import median
sys.path.insert(0, {repository!r})
d.init_process_group("gloo")
def timed(function, repeats=20):
    seconds = []
    for _ in range(repeats + 3):
        d.barrier(); start = time.perf_counter(); function(); seconds.append(time.perf_counter() - start)
    return median(seconds[3:]) * 1e3
small, gradient = torch.zeros(1), torch.zeros(1_268_547)
lines = [("one number", timed(lambda: d.all_reduce(small)))]
lines += [("the gradient, 5.07 MB", timed(lambda: d.all_reduce(gradient)))]
from atbsn import build_arch
torch.manual_seed(0)
net = build_arch({{"type": "ATBSN", "width": 48}}).to(memory_format=torch.channels_last)
noisy = torch.rand(1, 3, 64, 64) * 255
def step(network):
    with torch.autocast("cpu", torch.bfloat16): loss = (network(noisy, k=9) - noisy).abs().mean()
    loss.backward()
    net.zero_grad(set_to_none=True)
alone = timed(lambda: step(net), 5)
together = timed(lambda p=torch.nn.parallel.DistributedDataParallel(net): step(p), 5)
lines += [("forward and backward, 1 x 64 x 64", alone), ("the same in DDP", together)]
if d.get_rank() == 0:
    for name, ms in lines: print(f"{{name}}: {{ms:.2f}} ms")
d.destroy_process_group()
"""


def main() -> None:
    """Time collectives and a step of AT-BSN between two processes of one node, and between two nodes."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    from tempfile import TemporaryDirectory

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the nodes are removed then too
    with TemporaryDirectory() as scratch, TwoNodes() as nodes:
        folder = Path(scratch)
        script = folder / "measure.py"
        script.write_text(_MEASURE.format(repository=str(REPOSITORY)))
        log = folder / "one.log"
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_addr={ADDRESSES[0]}",
            f"--master_port={_PORT}", str(script),
        ]  # fmt: skip
        nodes.start(0, command, folder, log, GLOO_SOCKET_IFNAME="lo").wait()
        print(f"two processes of one node:\n{log.read_text()}")
        logs = [folder / f"two{node}.log" for node in (0, 1)]
        started = [nodes.torchrun(node, [str(script)], folder, logs[node]) for node in (0, 1)]
        for process in started:
            process.wait()
        print(f"two nodes:\n{''.join(log.read_text() for log in logs)}")


if __name__ == "__main__":
    main()
