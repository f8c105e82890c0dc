import json
from io import BytesIO

import pandas as pd
import pyarrow.parquet as pq
import pytest

from src.common.errors import InputError
from src.evaluation.records import read_records, score_column, write_records


def test_round_trip_keeps_values_and_provenance(make_records, provenance, tmp_path):
    frame = make_records("lbam", [30.0, 31.0, float("nan"), 29.5, 20.0])
    path = tmp_path / "model=lbam" / "records.parquet"  # a directory of a Hydra multirun, not a partition
    write_records(frame, path, provenance)
    found, found_provenance = read_records(path)
    pd.testing.assert_frame_equal(found, frame)
    assert found_provenance == provenance
    assert [entry.name for entry in path.parent.iterdir()] == ["records.parquet"]


def test_failed_write_keeps_the_old_file(make_records, provenance, tmp_path, monkeypatch):
    path = tmp_path / "records.parquet"
    write_records(make_records("lbam", [30.0]), path, provenance)
    before = path.read_bytes()

    def full_disk(table, where, **options):
        where.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("src.evaluation.records.pq.write_table", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_records(make_records("lbam", [31.0]), path, provenance)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_error_names_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.parquet: no such file"):
        read_records(tmp_path / "nowhere.parquet")


@pytest.mark.parametrize("kept_bytes", [0, 3, 400])
def test_rejects_truncated_file(make_records, provenance, tmp_path, kept_bytes):
    path = tmp_path / "records.parquet"
    write_records(make_records("lbam", [30.0]), path, provenance)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(InputError, match=r"records\.parquet: corrupt or not a Parquet file"):
        read_records(path)


def test_rejects_file_with_overwritten_bytes(make_records, provenance, tmp_path):
    path = tmp_path / "records.parquet"
    write_records(make_records("lbam", [30.0] * 5), path, provenance)
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)  # data pages; header, footer and schema are intact
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"records\.parquet"):
        read_records(path)


def test_corrupt_footer_is_an_error_and_pandas_index_has_no_effect(make_records, provenance, tmp_path):
    path = tmp_path / "records.parquet"
    write_records(make_records("lbam", [30.0] * 5), path, provenance)
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"\xff" + content[-8:])  # in the footer; Arrow's message has several lines
    with pytest.raises(InputError, match=r"records\.parquet: corrupt or not a Parquet file") as raised:
        read_records(path)
    assert "\n" not in str(raised.value)
    table = pq.ParquetFile(BytesIO(content)).read()
    theirs = json.loads(table.schema.metadata[b"pandas"])
    noted = {b"pandas": json.dumps({**theirs, "index_columns": ["hole_ratio"]}).encode()}
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **noted}), path)
    assert list(read_records(path)[0].columns) == table.column_names
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"pandas": b"\xff"}), path)
    with pytest.raises(InputError, match=r"records\.parquet: corrupt or not a Parquet file"):
        read_records(path)


def test_rejects_parquet_file_of_other_software(make_records, tmp_path):
    path = tmp_path / "other.parquet"
    make_records("lbam", [30.0]).to_parquet(path)
    with pytest.raises(InputError, match="not records of this suite"):
        read_records(path)


def test_rejects_writing_without_a_key_column_or_two_methods(make_records, provenance, tmp_path):
    with pytest.raises(ValueError, match="missing: bin"):
        write_records(make_records("lbam", [30.0]).drop(columns="bin"), tmp_path / "a.parquet", provenance)
    both = pd.concat([make_records("lbam", [30.0]), make_records("pconv", [30.0])])
    with pytest.raises(ValueError, match="one method"):
        write_records(both, tmp_path / "a.parquet", provenance)
    assert list(tmp_path.iterdir()) == []


def test_score_column_joins_output_and_score():
    assert score_column("composite", "l1_percent") == "composite_l1_percent"
