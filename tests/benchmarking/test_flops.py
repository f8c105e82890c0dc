import torch
from torch import nn
from torch.nn import functional as F

from src.benchmarking.flops import count_flops, matmul_flops_per_second


def test_a_convolutions_operations_by_hand():
    conv, x = nn.Conv2d(3, 4, 5, padding=2), torch.rand(2, 3, 16, 8)
    assert count_flops(lambda: conv(x)) == 2 * 2 * 16 * 8 * 3 * 4 * 5 * 5  # a multiplication and an addition are two


def test_attention_is_counted_on_the_cpu_too():
    query, key, value = torch.rand(2, 3, 10, 8), torch.rand(2, 3, 20, 8), torch.rand(2, 3, 20, 8)
    assert count_flops(lambda: F.scaled_dot_product_attention(query, key, value)) == 2 * 2 * 3 * (10 * 20 * 8) * 2


def test_the_machines_rate_is_measured_once(monkeypatch):
    monkeypatch.setattr("src.benchmarking.flops._MATRIX_SIDE", {"cpu": 32})
    monkeypatch.setattr(
        "src.benchmarking.flops.time_interleaved", lambda runs, device, min_duration: [[4.0, 8.0], [9.0, 2.0]]
    )
    matmul_flops_per_second.cache_clear()
    rate = matmul_flops_per_second(torch.device("cpu"), torch.float32, 1)
    monkeypatch.setattr("src.benchmarking.flops.time_interleaved", None)
    assert rate == matmul_flops_per_second(torch.device("cpu"), torch.float32, 1) == 2 * 32**3 / 2.0
    matmul_flops_per_second.cache_clear()


def test_a_product_and_a_convolution_of_the_same_work_are_timed(monkeypatch):
    monkeypatch.setattr("src.benchmarking.flops._MATRIX_SIDE", {"cpu": 32})
    work = []

    def counted(runs, device, min_duration):
        work.extend(map(count_flops, runs))
        return [[1.0]]

    monkeypatch.setattr("src.benchmarking.flops.time_interleaved", counted)
    matmul_flops_per_second.cache_clear()
    matmul_flops_per_second(torch.device("cpu"), torch.float32, 1)
    matmul_flops_per_second.cache_clear()
    assert work == [2 * 32**3] * 2
