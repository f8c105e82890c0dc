"""Training: the LightningModule base, one subclass per procedure, callbacks and resuming."""
