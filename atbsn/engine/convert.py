"""Convert weight files: C-BSN's TensorFlow variables to ours, and .pth to .safetensors and back."""

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from atbsn.archs.cbsn import CBSN
from atbsn.archs.weights import load, read_weights, save_weights
from atbsn.utils.errors import UserError

FORMATS = (".pth", ".safetensors")
"""Suffixes of the files that are written."""
_OPTIMISER_VARIABLE = re.compile(r"(^|/)(Adam(_\d+)?|beta[12]_power(_\d+)?|global_step)$")
"""Names of the variables that TensorFlow's Adam stores in a checkpoint beside the network's."""

_READER = """
import sys, numpy, tensorflow
reader = tensorflow.train.load_checkpoint(sys.argv[1])
numpy.savez(sys.argv[2], **{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})
"""
"""A program that writes the variables of a checkpoint to a file: ``python -c _READER prefix variables.npz``."""


def convert(
    source: str | Path, target: str | Path, network: str | Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Write the weights in ``source`` to ``target``; returns the weights and their metadata.

    The network is found from the file, unless it is named. Prefixes and wrappers of names ('module.', 'params', 'nbsn.'
    and the like) are removed. If the file has averaged weights ('params_ema'), these are written. Metadata are kept;
    the network's type and arguments are added.

    Args:
        source: a TensorFlow checkpoint's prefix, its variables as .npz ('/' may be written '__'), or a weight file.
        target: .pth or .safetensors.
        network: its type or options, as ``weights.load`` takes them.

    Raises:
        UserError: ``source`` cannot be read or is no network of ours, or ``target`` is no weight file's name.
    """
    source, target = Path(source), Path(target)
    if target.suffix not in FORMATS:
        raise UserError(f"{target}: not a weight file's name; end it with {' or '.join(FORMATS)}")
    if source.suffix == ".npz" or _index_file(source).is_file():
        variables = _read_npz(source) if source.suffix == ".npz" else _read_checkpoint(source)
        try:
            params = state_dict_from_tensorflow(variables)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        metadata: dict[str, Any] = {"network": {"type": "CBSN", "width": len(params["conv0.bias"])}}
    else:
        net = load(source, network)
        params, metadata = net.state_dict(), {**read_weights(source).metadata, "network": net.options}
    save_weights(target, params, metadata)
    return params, metadata


def tensorflow_name(key: str) -> str:
    """The authors' TensorFlow variable for a key of ``CBSN``'s state dict.

    ``branch1.dilated.0.conv1.weight`` is ``DBSN/B1/DCM0/conv1/kernel``.
    """
    layer, kind = key.rsplit(".", 1)
    names = {"weight": "kernel", "bias": "bias"}
    if layer in ("branch1.conv1", "branch2.conv1"):
        names = {"weight": "W1", "bias": "b1"}
    scope = layer.replace("branch", "B").replace("dilated.", "DCM").replace(".", "/")
    return f"DBSN/{scope}/{names[kind]}"


def state_dict_from_tensorflow(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The state dict of a ``CBSN`` from the authors' variables, by name. Kernels are HWIO there and OIHW here.

    Variables of the optimiser are ignored.

    Raises:
        UserError: variables are missing, unknown or of another shape. The message names them.
    """
    variables = {name: value for name, value in variables.items() if not _OPTIMISER_VARIABLE.search(name)}
    width = np.size(variables.get("DBSN/conv0/bias", ())) or 128
    needed = {tensorflow_name(key): (key, value.shape) for key, value in CBSN(width).state_dict().items()}
    state, faults = {}, []
    for name, (key, shape) in needed.items():
        if name not in variables:
            faults.append(f"{name} is missing")
            continue
        value = torch.from_numpy(np.array(variables[name], dtype=np.float32))
        state[key] = value.permute(3, 2, 0, 1).contiguous() if value.ndim == 4 else value
        if state[key].shape != shape:
            faults.append(f"{name} has shape {tuple(value.shape)}")
    faults += [f"{name} is unknown" for name in variables if name not in needed]
    if faults:
        listed = ", ".join(faults[:20]) + (f" and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise UserError(f"not the variables of a C-BSN of width {width}: {listed}; give the whole network")
    return state


def _index_file(prefix: Path) -> Path:
    """The index file of the TensorFlow checkpoint ``prefix``; ``prefix`` may be that file itself."""
    return prefix if prefix.suffix == ".index" else prefix.with_name(f"{prefix.name}.index")


def _read_checkpoint(prefix: Path) -> Mapping[str, np.ndarray]:
    """All variables of a TensorFlow checkpoint by name.

    A separate process reads it: TensorFlow and torch's triton each load an LLVM, and two in one process abort.
    """
    if find_spec("tensorflow") is None:
        raise UserError(
            f"{prefix}: TensorFlow reads its checkpoints, and is not installed; pip install tensorflow-cpu "
            "(only atbsn convert needs it), or save the variables as .npz where it is"
        )
    with TemporaryDirectory() as folder:
        target = Path(folder, "variables.npz")
        command = [sys.executable, "-c", _READER, str(_index_file(prefix).with_suffix("")), str(target)]
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode:
            reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{prefix}: not a readable TensorFlow checkpoint ({reason}); copy all its files")
        return _read_npz(target)


def _read_npz(path: Path) -> Mapping[str, np.ndarray]:
    """All arrays of an .npz file by name. '__' in a name may stand for '/'."""
    try:
        with np.load(path) as arrays:
            return {name.replace("__", "/"): arrays[name] for name in arrays.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise UserError(f"{path}: not a readable .npz file ({error}); check the path") from None
