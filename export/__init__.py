"""From a checkpoint to verified engine files: fuse, quantise, export to ONNX (`python -m export.build`)."""
