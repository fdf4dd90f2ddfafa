"""Export networks for other programs: ONNX files, darktable's models, folders for the Hugging Face hub."""
