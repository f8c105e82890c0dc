"""Weights: our checkpoints, export directories, downloads from the Hub, shipped weights and releases."""
