"""The moving average's decays by hand, and the effect of its warm-up on the initial weights."""

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from src.common.errors import InputError
from src.training.callbacks.moving_average import MovingAverage


def averages(weights, **arguments):
    """Return the average after each step."""
    module, callback = LightningModule(), MovingAverage(**arguments)
    module.weight = nn.Parameter(torch.zeros(1))
    callback.setup(None, module, "fit")
    found = []
    for weight in weights:
        module.weight.data.fill_(weight)
        callback._average_model.update_parameters(module)
        found.append(callback._average_model.module.weight.item())
    return found


def test_first_decays_by_hand():
    # the first step's weights, then 2/11 and 3/12 of the average are kept
    first, second = 4.0 * 2 / 11, (4.0 * 2 / 11) * 3 / 12 + 8.0 * 9 / 12
    assert averages([4.0, 0.0, 8.0], decay=0.999, warm_up=10) == pytest.approx([4.0, first, second])


def test_decay_grows_to_its_limit():
    average = MovingAverage(decay=0.9, warm_up=10)
    assert [average.decay_after(k) for k in (1, 79, 80, 81, 10_000)] == pytest.approx([2 / 11, 80 / 89, 0.9, 0.9, 0.9])


def test_warm_up_forgets_the_initial_weights():
    start = [1.0] + [0.0] * 599
    assert averages(start, decay=0.999, warm_up=10)[-1] < 1e-18
    assert averages(start, decay=0.999, warm_up=1)[-1] == pytest.approx(0.999**599, rel=1e-4)  # 0.55


@pytest.mark.parametrize(("argument", "value"), [("decay", 1.0), ("decay", -0.1), ("warm_up", 0.5)])
def test_arguments_out_of_range_are_rejected(argument, value):
    with pytest.raises(InputError, match=rf"callbacks\.ema\.{argument} must"):
        MovingAverage(**{"decay": 0.9, "warm_up": 10, argument: value})
