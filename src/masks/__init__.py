"""Mask generators, mask folders, frozen mask banks and the bins of hole ratios."""
