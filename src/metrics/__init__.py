"""Per-image scores by name, and their sums and counts by hole ratio."""
