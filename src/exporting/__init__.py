"""Export of trained networks: graphs for ONNX and torch.export, model cards, uploads to the Hugging Face Hub."""
