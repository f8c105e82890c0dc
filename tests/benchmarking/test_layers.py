import pytest
import torch

from src.benchmarking.baselines import literal_layer
from src.benchmarking.clock import MinDuration
from src.benchmarking.layers import LAYERS, make_layer, measure_layer
from src.benchmarking.setting import Setting
from src.common.errors import InputError

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_timed_beside_their_literal_form(name):
    layer, seen = make_layer(name, width=1 / 16), []
    layer.register_forward_pre_hook(lambda module, args: seen.append([t.shape for t in args]))
    record = measure_layer(layer, 1 / 16, 64, 2, CPU, MinDuration(2, 0.0), Setting(), literal_layer)
    assert seen[0][0] == (2, 8, 16, 16)  # 128 / 16 channels, a quarter of the picture's side
    assert record["per_second"] == pytest.approx(2 / record["median_s"])
    assert record["ratio"] == pytest.approx(record["median_s"] / record["baseline_median_s"])


def test_layers_have_names():
    with pytest.raises(InputError, match="layers=telea: unknown layer; choose from contextual_attention"):
        make_layer("telea", 1.0)
