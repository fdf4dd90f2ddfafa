"""Floor 4: the training loop, validation, inference, checkpoints, loggers and submissions."""
