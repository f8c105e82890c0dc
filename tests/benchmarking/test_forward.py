import pytest
import torch
from torch import nn

from src.benchmarking import forward
from src.benchmarking.baselines import make_baseline_factory
from src.benchmarking.clock import MinDuration
from src.benchmarking.failures import NotMeasuredError
from src.benchmarking.forward import make_inputs, measure_forward
from src.benchmarking.setting import Setting
from src.networks.interface import InpaintingNetwork, InpaintingOutput

CPU = torch.device("cpu")
MIN_DURATION = MinDuration(2, 0.0)


class OneConvolution(InpaintingNetwork):
    seen = None

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 5, padding=2)

    def inpaint(self, image, mask, edges):
        out = self.conv(image)
        self.seen.append((self.training, torch.is_grad_enabled(), out.dtype))
        return InpaintingOutput(out)


@pytest.fixture(autouse=True)
def seen(monkeypatch):
    monkeypatch.setattr(OneConvolution, "seen", [])
    monkeypatch.setattr(forward, "matmul_flops_per_second", lambda device, dtype, threads: 1e9)
    return lambda: OneConvolution.seen


def test_size_and_work_of_a_convolution_by_hand(seen):
    record = measure_forward(OneConvolution(), 32, 4, CPU, MIN_DURATION, Setting())
    assert record["parameters"] == 3 * 3 * 5 * 5 + 3
    assert record["flops"] == 2 * 32 * 32 * 3 * 3 * 5 * 5  # of one image; a multiplication and an addition are two
    assert record["per_second"] == pytest.approx(4 / record["median_s"])
    assert record["product_share"] == pytest.approx(4 * record["flops"] / record["median_s"] / 1e9)
    assert set(seen()) == {(False, False, torch.float32)}


def test_precision_reaches_the_network(seen):
    measure_forward(OneConvolution(), 32, 1, CPU, MIN_DURATION, Setting("bf16-mixed"))
    assert seen()[0][2] == torch.float32  # operations are counted as it is
    assert {how[2] for how in seen()[1:]} == {torch.bfloat16}


def test_a_baseline_takes_turns_with_the_network(seen):
    setting = Setting("bf16-mixed")
    record = measure_forward(
        OneConvolution(), 32, 1, CPU, MIN_DURATION, setting, make_baseline_factory("float32", setting)
    )
    assert "ratio_lower" not in record  # two rounds
    rounds = MinDuration(5, 0.0)
    turns = [how[2] for how in seen()[-4:]]
    assert turns == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]
    assert record["ratio"] == pytest.approx(record["median_s"] / record["baseline_median_s"])
    record = measure_forward(OneConvolution(), 32, 1, CPU, rounds, setting, make_baseline_factory("float32", setting))
    assert record["ratio_lower"] <= record["ratio"] <= record["ratio_upper"]
    assert {"baseline_lower_quartile_s", "baseline_peak_bytes"} <= set(record)


def test_without_a_literal_form_ours_is_measured_alone():
    def none(network):
        raise NotMeasuredError("no literal form")

    record = measure_forward(OneConvolution(), 32, 1, CPU, MIN_DURATION, Setting(), none)
    assert record["baseline_failure"] == "no literal form"
    assert record["median_s"] > 0
    assert "ratio" not in record


def test_a_baseline_too_large_leaves_ours():
    class TooLarge(OneConvolution):
        def inpaint(self, image, mask, edges):
            raise torch.OutOfMemoryError("no more")

    record = measure_forward(
        OneConvolution(), 32, 1, CPU, MIN_DURATION, Setting(), lambda network: (TooLarge(), Setting())
    )
    assert record["baseline_failure"] == "out of memory: no more"
    assert record["median_s"] > 0


def test_inputs_are_always_the_same():
    (image, mask), (image_again, mask_again) = make_inputs(2, 48, CPU), make_inputs(2, 48, CPU)
    assert torch.equal(image, image_again)
    assert torch.equal(mask, mask_again)
    assert 0.29 < 1 - mask.mean() < 0.31
    assert not torch.equal(mask[0], mask[1])
