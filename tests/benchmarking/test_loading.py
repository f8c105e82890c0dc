from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from src.benchmarking import loading
from src.benchmarking.clock import MinDuration
from src.benchmarking.loading import measure_loading, write_photos

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "jpeg"
    write_photos(folder, shorter_side_px=96)
    return folder


def test_a_folder_of_photos_stands_in_for_a_data_set(photos):
    files = sorted(photos.iterdir())
    assert len(files) == loading.PHOTOS
    for file in files[:10]:
        with Image.open(file) as picture:
            assert (picture.format, picture.mode, min(picture.size)) == ("JPEG", "RGB", 96)


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_are_counted_by_batches_of_all_workers(photos, workers):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        run = compose("train", ["scale=smoke", "data=folder", f"data.root={photos}", "batch_size=3", "output_dir=."])
    record = measure_loading(run, workers, MinDuration(4, 0.0))
    assert record["runs"] == 4
    assert record["samples"] == 4 * 3 * max(1, workers)
    assert record["per_second"] > 0
