"""Networks as other programs take them: ONNX files, darktable's models, folders for the hub."""
