"""MEDFE's discriminators of an image and of a window."""

import torch

from src.networks.discriminators.patches import WindowDiscriminator

MASK = torch.ones(4, 1, 128, 160)


def test_sizes_of_the_scores():
    image = torch.rand(4, 3, 128, 160)
    assert WindowDiscriminator(width=1 / 16)(image, MASK).shape == (4, 1, 4, 5)
    assert WindowDiscriminator(width=1 / 16, window=0.5)(image, MASK).shape == (4, 1, 2, 2)
    assert WindowDiscriminator(width=1 / 16, window=0.1)(image, MASK).shape == (4, 1, 1, 1)  # at least 32 px


def test_window_moves_in_training_and_is_central_in_evaluation():
    rows = torch.arange(128.0)[:, None].expand(4, 3, 128, 160).contiguous()
    local = WindowDiscriminator(width=1 / 16, window=0.25)
    torch.manual_seed(0)
    starts = {float(local._cut(rows, 0.25)[i, 0, 0, 0]) for _ in range(20) for i in range(4)}
    assert len(starts) > 20
    assert 0 <= min(starts) <= max(starts) <= 96
    cut = local.eval()._cut(rows, 0.25)
    assert cut.shape == (4, 3, 32, 40)
    assert (cut[:, 0, 0, 0] == 48).all()
