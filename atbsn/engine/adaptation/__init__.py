"""Adaptation: train shipped weights further on the user's own noisy pictures, in minutes and without clean pictures."""

from atbsn.engine.adaptation.adapt import Adapted, adapt

__all__ = ["Adapted", "adapt"]
