import pytest
import torch
from torch import nn
from torch.nn import functional as F

from src.benchmarking.clock import MinDuration
from src.benchmarking.forward import count_flops, make_inputs, measure_forward
from src.benchmarking.setting import Setting
from src.networks.interface import InpaintingNetwork, InpaintingOutput
from src.networks.layers.contextual_attention import ContextualAttention
from src.networks.reference import FORMS

CPU = torch.device("cpu")
MIN_DURATION = MinDuration(2, 0.0)


class OneConvolution(InpaintingNetwork):
    calls = None

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 5, padding=2)

    def inpaint(self, image, mask, edges):
        out = self.conv(image)
        self.calls.append((self.training, torch.is_grad_enabled(), out.dtype))
        return InpaintingOutput(out)


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Return a function that returns the mode, gradient mode and dtype of each call of a `OneConvolution`."""
    monkeypatch.setattr(OneConvolution, "calls", [])
    return lambda: OneConvolution.calls


def test_size_and_work_of_a_convolution_by_hand(calls):
    record = measure_forward(OneConvolution(), 32, 4, CPU, MIN_DURATION, Setting())
    assert record["parameters"] == 3 * 3 * 5 * 5 + 3
    assert record["flops"] == 2 * 32 * 32 * 3 * 3 * 5 * 5  # of one image; a multiplication and an addition are two
    assert record["per_second"] == pytest.approx(4 / record["median_s"])
    assert record["runs"] == 2
    assert len(calls()) == 1 + 2 + 2  # FLOPs, a first run and one for the peak memory, timed runs
    assert set(calls()) == {(False, False, torch.float32)}


def test_attention_is_counted_on_the_cpu():
    query, key, value = torch.rand(2, 3, 10, 8), torch.rand(2, 3, 20, 8), torch.rand(2, 3, 20, 8)
    assert count_flops(F.scaled_dot_product_attention, query, key, value) == 2 * 2 * 3 * (10 * 20 * 8) * 2


def test_precision_reaches_the_network(calls):
    measure_forward(OneConvolution(), 32, 1, CPU, MIN_DURATION, Setting("bf16-mixed"))
    assert calls()[0][2] == torch.float32  # FLOPs are counted without autocast
    assert {dtype for _, _, dtype in calls()[1:]} == {torch.bfloat16}


def test_literal_layers_replace_fast_ones():
    class OneAttention(OneConvolution):
        def __init__(self):
            super().__init__()
            self.attention = ContextualAttention(8)

    prepared = Setting(literal=True).prepare(OneAttention())
    assert type(prepared.attention) is not ContextualAttention
    assert type(prepared.attention) is type(FORMS[ContextualAttention](ContextualAttention(8)))
    record = measure_forward(OneConvolution(), 32, 1, CPU, MIN_DURATION, Setting(literal=True))
    assert record["failure"] == "no literal form"
    assert record["parameters"] > 0


def test_inputs_are_the_same_in_every_run():
    (image, mask), (image_again, mask_again) = make_inputs(2, 48, CPU), make_inputs(2, 48, CPU)
    assert torch.equal(image, image_again)
    assert torch.equal(mask, mask_again)
    assert 0.29 < 1 - mask.mean() < 0.31
    assert not torch.equal(mask[0], mask[1])
