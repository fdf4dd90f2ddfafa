"""Grids of trainings and measurements: the file, its points, how they are run, and what is remembered of them."""
