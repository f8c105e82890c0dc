"""One LightningModule per training procedure."""
