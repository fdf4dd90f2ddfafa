"""Adaptation: train shipped weights further on one's own noisy pictures, within minutes and without clean ones."""

from atbsn.engine.adaptation.adapt import Adapted, adapt

__all__ = ["Adapted", "adapt"]
