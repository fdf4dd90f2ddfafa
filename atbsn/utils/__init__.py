"""Floor 0: errors, files, images, processes, seeds and logging. Knows nothing of the rest of the package."""
