"""Layers that more than one network family uses."""
