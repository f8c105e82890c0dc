"""Reading released checkpoints: weights of the papers' own implementations become networks of this suite."""
