"""Load weights of released implementations into networks of this suite."""

from src.checkpoints.releases.loading import COMPLETIONS, CRITICS, NETWORKS, RELEASES, load

__all__ = ["COMPLETIONS", "CRITICS", "NETWORKS", "RELEASES", "load"]
