"""Weights: checkpoints, exported directories, the Hub, shipped weights and releases."""
