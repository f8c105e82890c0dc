"""Set scores in records and tables."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from src.common.errors import InputError
from src.evaluation.records import SetEstimate, read_records, read_set_scores, write_records
from src.evaluation.scoring import scores_table
from src.evaluation.set_scores import estimate_set_scores


def random_features(count, shift=0.0):
    features = np.random.default_rng(0).normal(size=(count, 2, 4)).astype(np.float32)
    features[:, 1] += shift
    return features


def test_bins_need_enough_samples(monkeypatch):
    bins = ["(0,0.1]"] * 30 + ["(0.1,0.2]"] * 20 + [""] * 5
    assert {one.bin for one in estimate_set_scores(random_features(55), bins)} == {"all"}
    monkeypatch.setattr("src.evaluation.set_scores.RELIABLE", 30)
    found = estimate_set_scores(random_features(55), bins)
    assert {(one.bin, one.count) for one in found} == {("all", 55), ("(0,0.1]", 30)}
    assert [one.name for one in found[:4]] == ["fid", "kid", "u_ids", "p_ids"]
    kid = found[1]
    assert kid.low < kid.value < kid.high
    assert found[0].low is None


def test_few_samples_have_no_kid_and_one_has_nothing():
    assert [one.name for one in estimate_set_scores(random_features(19), [""] * 19)] == ["fid", "u_ids", "p_ids"]
    assert estimate_set_scores(random_features(1), [""]) == []


def test_features_that_are_not_finite_have_no_scores(caplog):
    features = random_features(30)
    features[3, 1, 0] = np.nan
    assert estimate_set_scores(features, [""] * 30) == []
    assert "1 of 30 samples have features that are not finite" in caplog.text


def test_larger_differences_have_worse_scores():
    near, far = (
        {one.name: one.value for one in estimate_set_scores(random_features(80, shift), [""] * 80)}
        for shift in (0.2, 1)
    )
    assert near["fid"] < far["fid"]
    assert near["kid"] < far["kid"]
    assert near["u_ids"] > far["u_ids"]
    assert near["p_ids"] > far["p_ids"]


def test_table_shows_set_scores_where_they_exist(make_records, provenance, tmp_path):
    estimates = [SetEstimate("fid", "all", 4, 12.5), SetEstimate("kid", "all", 4, 1.5, 1.0, 2.0)]
    paths = [tmp_path / name / "records.parquet" for name in ("lbam", "pconv")]
    write_records(make_records("lbam", [30.0, 31.0, 29.0, 28.0]), paths[0], provenance, estimates)
    write_records(make_records("pconv", [30.0, 31.0, 29.0, 28.0]), paths[1], provenance)
    assert read_set_scores(paths[0]) == estimates
    table = scores_table(paths, caption="two")
    fid, kid = (group for group in table.groups if group.metric.name in ("fid", "kid"))
    assert fid.rows[0].means[-1] == 12.5
    assert all(math.isnan(value) for value in (*fid.rows[0].means[:-1], *fid.rows[1].means))
    assert kid.rows[0].estimates[-1].interval == (1.0, 2.0)
    assert any("of 4 samples are not comparable with those of 10,000" in note for note in table.notes)


def test_older_and_invalid_files(make_records, provenance, tmp_path):
    path = tmp_path / "records.parquet"
    write_records(make_records("lbam", [30.0, 31.0]), path, provenance)
    table = pq.ParquetFile(path).read()
    metadata = dict(table.schema.metadata)
    del metadata[b"inpainting_suite.set_scores"]
    pq.write_table(table.replace_schema_metadata(metadata), path)
    assert read_set_scores(path) == []
    assert len(read_records(path)[0]) == 2
    metadata[b"inpainting_suite.set_scores"] = json.dumps({"estimates": [{"name": 3}]})
    pq.write_table(pa.Table.replace_schema_metadata(table, metadata), path)
    with pytest.raises(InputError, match=r"records\.parquet: invalid set scores"):
        read_set_scores(path)
