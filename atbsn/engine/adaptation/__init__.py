"""From shipped weights to weights for one's own pictures, in minutes, from the noisy pictures alone."""

from atbsn.engine.adaptation.adapt import Adapted, adapt

__all__ = ["Adapted", "adapt"]
