"""Measuring denoisers: metrics a picture, means, groups, panels, comparisons."""
