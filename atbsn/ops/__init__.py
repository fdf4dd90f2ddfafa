"""Floor 0: tensor operations without parameters: shifts, rotations, padding, sub-sampling."""
