"""From checked options to networks, methods, data sets and metrics. Nothing is written here."""

from pathlib import Path
from typing import Any, Literal

import torch

from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.weights import load_weights, load_with_metadata
from atbsn.data import build_dataset
from atbsn.data.base import ImageSet
from atbsn.engine.evaluation.validation import Measuring
from atbsn.engine.inference.denoiser import Denoiser, build_denoiser
from atbsn.metrics import Metric, build_metric
from atbsn.models import build_model
from atbsn.models.base import Model
from atbsn.options import Options


def build_network(options: Options) -> tuple[Network, dict[str, Any]]:
    """Build the network and load its weights.

    Without the option ``network``, it is the one that the weight file names.

    Returns:
        The network, and the metadata of the weight file; empty without weights.
    """
    weights = options.path.pretrain_network
    if options.network is None:
        assert weights is not None, "options without network have weights"
        return load_with_metadata(weights)
    net = build_arch(options.network)
    return net, load_weights(net, weights) if weights is not None else {}


def build_method(options: Options, net: Network) -> Model:
    """Build the training method around ``net``.

    Some methods initialise the network. Weights that the options name are loaded after that, so they stay.
    """
    assert options.model is not None, "a method is built where the options name one"
    model = build_model(options.model, net)
    if options.path.pretrain_network is not None:
        load_weights(net, options.path.pretrain_network)
    return model


def build_test_denoiser(options: Options, device: torch.device, kind: Literal["val", "test"]) -> Denoiser:
    """The denoiser of atbsn test, or of atbsn valid (``val``): network, weights and settings.

    Where the options name a method, its settings lie over those of the weight file.
    """
    net, _ = build_network(options)
    trained_for = dict(net.denoise_settings)
    if options.model is not None:
        trained_for |= build_method(options, net).denoise_settings()
    inference = options.inference(kind)
    denoiser = build_denoiser(net.eval().to(device), device, inference, trained_for)
    if inference.compile:
        net.compile(dynamic=False)
    return denoiser


def build_sets(options: Options, kind: Literal["val", "test"]) -> dict[str, ImageSet]:
    """The data sets for validation or for atbsn test, by name."""
    return {name: build_dataset(options.dataset(name)) for name in options.dataset_names(kind)}


def build_metrics(options: Options) -> dict[str, Metric]:
    """The metrics of ``val.metrics``, by name."""
    return {name: build_metric(entry) for name, entry in options.val.metrics.items()}


def build_measuring(options: Options) -> Measuring:
    """The metrics, the number of panels and the limit of ``val``."""
    return Measuring(build_metrics(options), options.val.save_img, options.val.limit)


def results_folder(options: Options) -> Path:
    """The folder that atbsn test, atbsn valid and atbsn compare write to."""
    return Path(options.path.root) / "results" / options.name
