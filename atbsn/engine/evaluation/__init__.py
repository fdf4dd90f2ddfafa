"""Measure denoisers: metrics of each picture, means, groups, panels, comparisons, and judgement without references."""
