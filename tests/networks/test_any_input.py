"""Images of any size and mask are filled: known pixels stay, and pixels in the hole are not read."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from src.prediction.inpainter import fill
from tests.networks.test_interface import build

ONE_OF_A_FAMILY = (
    *("lbam", "lbam_release", "pconv", "pconv_release", "contextual_attention", "contextual_attention_release"),
    *("mpga_gla", "mpga_gla_release", "edge_lbam", "edge_lbam_release", "gmcnn", "medfe"),
    *("mean_colour", "telea", "navier_stokes", "biharmonic"),
)
sides = st.integers(1, 40)


@st.composite
def masks(draw) -> torch.Tensor:
    """Return (1, 1, H, W): random pixels, or rectangles, whose effect reaches deeper layers."""
    height, width = draw(sides), draw(sides)
    if draw(st.booleans()):
        mask = draw(arrays(np.float32, (height, width), elements=st.sampled_from([0.0, 1.0])))
    else:
        mask = np.full((height, width), draw(st.sampled_from([0.0, 1.0])), np.float32)
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[top : top + draw(sides), left : left + draw(sides)] = draw(st.sampled_from([0.0, 1.0]))
    return torch.from_numpy(mask)[None, None]


@pytest.mark.parametrize("name", ONE_OF_A_FAMILY)
def test_fills_any_size_and_mask(name):
    network = build(name)

    @settings(max_examples=6, deadline=None, derandomize=True, database=None)
    @given(mask=masks(), poison=st.sampled_from([float("nan"), float("inf"), -1e30]))
    def check(mask, poison):
        image = torch.rand(1, 3, *mask.shape[-2:], generator=torch.Generator().manual_seed(0))
        filled = fill(network, image, mask)
        assert filled.shape == image.shape
        assert filled.min() >= 0
        assert filled.max() <= 1
        assert torch.equal(filled[mask.expand_as(image) > 0], image[mask.expand_as(image) > 0])
        assert torch.equal(fill(network, torch.where(mask > 0, image, poison), mask), filled)

    check()
