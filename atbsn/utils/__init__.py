"""Floor 0: errors, files, processes, seeds, times and the log. Nothing here imports the rest of the package."""
