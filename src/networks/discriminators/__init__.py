"""Discriminators of whole images and of patches."""
