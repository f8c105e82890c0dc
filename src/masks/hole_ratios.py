"""The hole-share bins that results are reported in.

LBAM (Xie et al. 2019, Table 1) and the irregular-mask test set of Liu et al. 2018 group masks by the share of the
image that the hole takes up: (0, 0.1], (0.1, 0.2], ..., (0.5, 0.6]. A bin holds its upper edge and not its lower one.
"""

Bin = tuple[float, float]
"""(low, high]: hole ratios s with low < s <= high."""

BINS: tuple[Bin, ...] = ((0.0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))


def bin_name(hole_ratio_bin: Bin) -> str:
    """The name of a bin in tables and file names, e.g. ``(0.1,0.2]``."""
    low, high = hole_ratio_bin
    return f"({low:g},{high:g}]"


def bin_holding(hole_ratio: float) -> str:
    """The name of the bin that holds `hole_ratio`; empty where none does."""
    return next((bin_name(b) for b in BINS if b[0] < hole_ratio <= b[1]), "")
