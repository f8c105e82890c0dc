"""Datasets: files, splits, manifests, transforms and loaders."""
