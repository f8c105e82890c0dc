"""Load weights of released implementations into networks of this suite."""

from src.checkpoints.releases.loading import CRITICS, NETWORKS, RELEASES, load

__all__ = ["CRITICS", "NETWORKS", "RELEASES", "load"]
