from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from src.benchmarking import loading
from src.benchmarking.clock import MinDuration
from src.benchmarking.loading import measure_loading

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_are_counted_by_batches_of_all_workers(photo_folder, monkeypatch, workers):
    monkeypatch.setattr(loading, "_WARM_UP", 6)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        run = compose(
            "train", ["scale=smoke", "data=folder", f"data.root={photo_folder}", "batch_size=3", "output_dir=."]
        )
    record = measure_loading(run, workers, MinDuration(4, 0.0))
    assert record["runs"] == 4
    assert record["samples"] == 4 * 3 * max(1, workers)
    assert record["per_second"] > 0
