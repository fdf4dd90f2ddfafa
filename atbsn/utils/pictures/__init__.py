"""Picture formats: what a file of each kind holds besides its pixels, and how it is written back."""
