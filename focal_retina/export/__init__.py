"""The detector as a graph of tensors, for ONNX, TorchScript and torch.export."""
