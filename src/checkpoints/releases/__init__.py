"""Load weights of released implementations into networks of this suite."""

from src.checkpoints.releases.loading import COMPLETIONS, CRITICS, NETWORKS, RELEASES, find_layout, load

__all__ = ["COMPLETIONS", "CRITICS", "NETWORKS", "RELEASES", "find_layout", "load"]
