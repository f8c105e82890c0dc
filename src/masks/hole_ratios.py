"""The bins of hole ratios by which results are reported.

The hole ratio is the number of hole pixels over the number of all pixels. LBAM (Xie et al. 2019, Table 1) and the
irregular-mask test set of Liu et al. 2018 use the bins (0, 0.1], (0.1, 0.2], ..., (0.5, 0.6], each with its upper edge.
"""

Bin = tuple[float, float]
"""(low, high]: hole ratios r with low < r <= high."""

BINS: tuple[Bin, ...] = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))


def bin_name(hole_ratio_bin: Bin) -> str:
    """Return the name of a bin in tables and file names, e.g. ``(0.1,0.2]``."""
    low, high = hole_ratio_bin
    return f"({low:g},{high:g}]"


def bin_holding(hole_ratio: float) -> str:
    """Return the name of the bin that contains `hole_ratio`, or "" if none does."""
    return next((bin_name(b) for b in BINS if b[0] < hole_ratio <= b[1]), "")
