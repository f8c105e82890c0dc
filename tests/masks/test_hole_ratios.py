from itertools import pairwise

from src.masks.hole_ratios import BINS, bin_name


def test_bins_are_adjacent_and_named_as_in_the_papers():
    assert all(below == low for (_, below), (low, _) in pairwise(BINS))
    assert [bin_name(hole_ratio_bin) for hole_ratio_bin in BINS] == [
        "(0,0.1]",
        "(0.1,0.2]",
        "(0.2,0.3]",
        "(0.3,0.4]",
        "(0.4,0.5]",
        "(0.5,0.6]",
    ]
