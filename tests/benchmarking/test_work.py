import torch
from torch import nn
from torch.nn import functional as F

from src.benchmarking.work import count_flops, product_flops


def test_a_convolutions_operations_by_hand():
    conv, x = nn.Conv2d(3, 4, 5, padding=2), torch.rand(2, 3, 16, 8)
    assert count_flops(lambda: conv(x)) == 2 * 2 * 16 * 8 * 3 * 4 * 5 * 5  # a multiplication and an addition are two


def test_attention_is_counted_on_the_cpu_too():
    query, key, value = torch.rand(2, 3, 10, 8), torch.rand(2, 3, 20, 8), torch.rand(2, 3, 20, 8)
    assert count_flops(lambda: F.scaled_dot_product_attention(query, key, value)) == 2 * 2 * 3 * (10 * 20 * 8) * 2


def test_the_machines_rate_is_measured_once(monkeypatch):
    monkeypatch.setattr("src.benchmarking.work._MATRIX_SIDE", {"cpu": 32})
    monkeypatch.setattr("src.benchmarking.work.seconds_in_turn", lambda runs, device, pace: [[4.0, 8.0], [9.0, 2.0]])
    product_flops.cache_clear()
    rate = product_flops(torch.device("cpu"), torch.float32, 1)
    monkeypatch.setattr("src.benchmarking.work.seconds_in_turn", None)
    assert rate == product_flops(torch.device("cpu"), torch.float32, 1) == 2 * 32**3 / 2.0
    product_flops.cache_clear()


def test_a_product_and_a_convolution_of_the_same_work_are_timed(monkeypatch):
    monkeypatch.setattr("src.benchmarking.work._MATRIX_SIDE", {"cpu": 32})
    work = []

    def counted(runs, device, pace):
        work.extend(map(count_flops, runs))
        return [[1.0]]

    monkeypatch.setattr("src.benchmarking.work.seconds_in_turn", counted)
    product_flops.cache_clear()
    product_flops(torch.device("cpu"), torch.float32, 1)
    product_flops.cache_clear()
    assert work == [2 * 32**3] * 2
