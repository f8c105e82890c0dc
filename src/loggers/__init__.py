"""Loggers for metrics, images and result tables: CSV, TensorBoard, W&B."""
