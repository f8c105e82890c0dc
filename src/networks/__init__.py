"""Inpainting networks as plain nn.Modules: one file per model family, with shared layers in `layers`."""
