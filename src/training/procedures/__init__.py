"""One LightningModule for each training procedure."""
