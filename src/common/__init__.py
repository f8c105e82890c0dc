"""Shared helpers: errors, atomic files, devices, distributed training, pretrained weights, provenance, options."""
