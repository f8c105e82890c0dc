"""LightningModules: one base, one small subclass a training procedure."""
