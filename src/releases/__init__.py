"""Reading released checkpoints: weights of the papers' own implementations become networks of this suite."""

from src.releases.loading import CRITICS, NETWORKS, RELEASES, load

__all__ = ["CRITICS", "NETWORKS", "RELEASES", "load"]
