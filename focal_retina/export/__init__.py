"""The detector as a graph of tensors, for ONNX and TorchScript."""
