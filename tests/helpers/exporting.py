"""What tests that export a network need."""

import pytest
import torch

from atbsn.engine.export.graph import MIN_TORCH, PACKAGES


def skip_without_exporter() -> None:
    """Skip the test without the extra ``[onnx]`` or with a PyTorch that is too old to export."""
    for package in PACKAGES:
        pytest.importorskip(package)
    if torch.__version__ < MIN_TORCH:
        pytest.skip(f"needs PyTorch {MIN_TORCH}")
