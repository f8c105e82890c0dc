"""Per-image scores by name and their means by hole ratio; no dependency on Lightning or Hydra."""
