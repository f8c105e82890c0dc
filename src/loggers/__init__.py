"""Where metrics are logged: CSV, TensorBoard, W&B."""
