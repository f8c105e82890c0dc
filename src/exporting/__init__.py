"""Trained networks in other formats: graphs for ONNX and torch.export, a model card, the Hugging Face Hub."""
