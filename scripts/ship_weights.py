"""Make shipped weights of trained ones: one file of half the size that holds all that is known about them.

    python scripts/ship_weights.py experiments/train_real/models/net_latest.pth real \
        --data "free photographs; cameras drawn at random" --terms "Apache-2.0; the pictures may be used by anybody" \
        --trained_for "100 minutes of a core"

writes atbsn/weights/real.safetensors with numbers of 16 bits: the averaged weights if there are any. The model card,
atbsn/weights/real.md, is written by hand.
"""

import argparse
import re
from pathlib import Path

import torch

from atbsn.archs.shipped import FOLDER
from atbsn.archs.weights import load_with_metadata, save_weights
from atbsn.engine.commands import run_command
from atbsn.utils.errors import UserError
from atbsn.utils.log import logger

_KEPT = ("network", "denoise", "noise", "patch_size", "iteration", "seed", "batch_size", "dataset")
"""The metadata of the training that are kept."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("source", help="weight file of a training")
    parser.add_argument("name", help="what people will call it: letters, digits and '-'")
    parser.add_argument("--data", required=True, help="what it was trained on")
    parser.add_argument("--terms", required=True, help="what may be done with it")
    parser.add_argument("--trained_for", required=True, help="how long, and on what, in words")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where it goes (default: into the package)")
    arguments = parser.parse_args()
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", arguments.name):
        raise UserError(f"{arguments.name}: no name; use small letters, digits and '-' between them, such as real-weak")
    path = ship(Path(arguments.source), arguments.name, arguments.data, arguments.terms, arguments.trained_for,
                arguments.folder)  # fmt: skip
    logger.info("%s: %.2f MB", path, path.stat().st_size / 1e6)


def ship(source: Path, name: str, data: str, terms: str, trained_for: str, folder: Path) -> Path:
    """Write ``folder/<name>.safetensors`` from the weight file ``source``, and return its path.

    Raises:
        UserError: ``source`` cannot be read, or a weight is too large for 16 bits.
    """
    net, found = load_with_metadata(source)
    params = {key: value.half() if value.is_floating_point() else value for key, value in net.state_dict().items()}
    large = [key for key, value in params.items() if value.is_floating_point() and not value.isfinite().all()]
    if large:
        raise UserError(f"{source}: {', '.join(large)} exceed {torch.finfo(torch.float16).max:.0f}; train with less lr")
    metadata = {key: found[key] for key in _KEPT if key in found}
    metadata |= {"network": net.options, "denoise": net.denoise_settings, "method": found.get("model")}
    metadata |= {"data": data, "terms": terms, "trained_for": trained_for}
    path = folder / f"{name}.safetensors"
    save_weights(path, params, metadata)
    return path


if __name__ == "__main__":
    run_command(main)
