"""A folder of many small files through test.py: time, memory over time, kill -9 and ``--resume``, two shards.

    python tests/engine/inference/pipeline/many_files.py --files 20000 --folder /tmp/many

``test_folders.py`` does the same with few files; docs/bulk.md has the figures.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[4]
sys.path.insert(0, str(REPOSITORY))

from atbsn.archs import build_arch  # noqa: E402
from atbsn.archs.weights import save_weights  # noqa: E402
from atbsn.pictures import read_picture  # noqa: E402

A_FOLDER = 1000


class Many:
    """``files`` noisy pictures of 64 x 64 in ``folder/in``, 1000 in each of its folders, and a small network."""

    def __init__(self, folder: Path, files: int) -> None:
        self.folder, self.files = folder, files
        self.source = folder / "in"
        random = np.random.default_rng(0)
        for number in range(files):
            samples = random.normal(128, 20, (64, 64, 3)).clip(0, 255).astype(np.uint8)
            path = self.source / str(number // A_FOLDER) / f"{number:06}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(samples).save(path, compress_level=1)
        torch.manual_seed(0)
        options = {"type": "StudentC", "width": 4}
        save_weights(folder / "net.pth", build_arch(options).state_dict(), {"network": options})
        (folder / "bulk.yml").write_text(f"name: bulk\nnum_gpu: 0\npath: {{pretrain_network: {folder / 'net.pth'}}}\n")

    def start(self, output: str, *arguments: str, source: Path | None = None) -> "subprocess.Popen[str]":
        """``test.py`` from ``source``, or all of ``in``, to ``output``."""
        command = [sys.executable, str(REPOSITORY / "test.py"), "-opt", str(self.folder / "bulk.yml")]
        command += ["--input", str(source or self.source), "--output", str(self.folder / output), *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def whole(self, output: str) -> list[str]:
        """The names of the clean pictures there are; every one can be read, and nothing half lies beside them."""
        folder = self.folder / output
        names = []
        for path in folder.rglob("*"):
            if path.is_file() and folder / "manifest" not in path.parents:
                assert path.suffix == ".png", f"{path}: left behind"
                assert read_picture(path).rgb.shape == (64, 64, 3)
                names.append(path.relative_to(folder).as_posix())
        return sorted(names)

    def count(self, output: str) -> int:
        """How many lines the manifests have."""
        manifests = (self.folder / output / "manifest").glob("done-*.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in manifests)

    def noted(self, output: str) -> list[str]:
        """The names in the manifests; a last line that was cut off is no name."""
        lines = []
        for path in (self.folder / output / "manifest").glob("done-*.jsonl"):
            lines += [json.loads(line)["name"] for line in path.read_text().splitlines(True) if line.endswith("\n")]
        return lines


def resident(process: "subprocess.Popen[str]") -> float:
    """Megabytes of memory that a process has now; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{process.pid}/status").read_text().split("VmRSS:")
    except OSError:
        return 0.0
    return int(fields[1].split()[0]) / 1e3 if len(fields) == 2 else 0.0


def processor_seconds(process: "subprocess.Popen[str]") -> float:
    """Seconds of a core that a process has taken; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(processes: list["subprocess.Popen[str]"], many: Many, output: str, until: float = 1.0) -> None:
    """Print time and memory at every twentieth of the files until ``until`` of them are done or the processes end."""
    start, said = time.monotonic(), many.count(output) * 20 // many.files
    while any([process.poll() is None for process in processes]):
        measured = [(processor_seconds(process), resident(process)) for process in processes]
        done = many.count(output)
        if done >= until * many.files and until < 1:
            return
        if done * 20 // many.files > said:
            said = done * 20 // many.files
            each = "; ".join(f"{seconds:6.1f} core-seconds, {memory:5.0f} MB" for seconds, memory in measured)
            print(f"  {done:>7} files  {time.monotonic() - start:6.0f} s  {each}", flush=True)
        time.sleep(0.5)


def said_last(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    lines = process.stdout.read().strip().splitlines()
    return f"  ended with {process.wait()}: {lines[-1] if lines else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Many small files through test.py.")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/many"), help="is emptied")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    many = Many(arguments.folder, arguments.files)

    print(f"{many.files} files; one process, killed with SIGKILL when a quarter is done:")
    killed = many.start("out")
    watch([killed], many, "out", until=0.25)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    whole, before = many.whole("out"), many.noted("out")
    print(f"  {len(whole)} pictures, all of them whole; {len(before)} noted", flush=True)
    assert set(before) <= set(whole) and len(whole) - len(before) <= 4

    print("two shards go on with --resume, at once:")
    shards = [many.start("out", "--resume", "--shard", f"{number}/2") for number in (1, 2)]
    watch(shards, many, "out")
    print("\n".join(map(said_last, shards)), flush=True)
    names = many.noted("out")
    assert len(names) == len(set(names)) == many.files, "some were done twice, or not at all"
    assert len(many.whole("out")) == many.files
    print("  none twice, none left out, all of them whole")

    print("all done already:")
    start = time.monotonic()
    print(f"{said_last(many.start('out', '--resume'))} ({time.monotonic() - start:.0f} s)", flush=True)

    print("the first folder by one process:")
    again = many.start("again", source=many.source / "0")
    print(said_last(again))
    for name in many.whole("again"):
        assert (many.folder / "again" / name).read_bytes() == (many.folder / "out" / "0" / name).read_bytes()
    print("  every file is the same, byte for byte")


if __name__ == "__main__":
    main()
