"""Merging records of several people: names, refusals, provenance, and the files that are written."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from src.common.errors import InputError
from src.evaluation.leaderboard import leaderboard, merge_records
from src.evaluation.record_files import read_listed
from src.evaluation.records import SetEstimate, read_methods, read_records, write_records
from src.evaluation.same_test import CONTENTS, hash_contents

SCORES = {"mine": [30.0, 31.0, 29.0, 33.0, 32.0], "yours": [25.0, 27.0, 26.0, 28.0, 20.0]}


@pytest.fixture
def write(make_records, provenance, tmp_path):
    """Return a function that writes the records of one person, who has the images in a directory of their own."""

    def write(person, method="lbam", *, change=lambda frame: frame, made=None, set_scores=(), **facts):
        frame = make_records(method, SCORES.get(person, SCORES["mine"]))
        root = f"/home/{person}/photos"
        frame["path"] = frame["path"].str.replace("/photos", f"{root}/test")
        data = {**provenance.data, "root": root, "sha256_of_file_list": "5a" * 32, CONTENTS: "6b" * 32, **facts}
        made = replace(made or provenance, data=data, started=f"2025-01-01T00:00:00+00:00 {person}")
        path = tmp_path / f"{person}.parquet"
        write_records(change(frame), path, made, set_scores)
        return path

    return write


def test_files_with_the_same_method_are_named_by_their_paths_or_by_keys(write, tmp_path):
    mine, yours, telea = write("mine"), write("yours"), write("theirs", "telea")
    names = lambda records: [each.origin.method for each in read_listed(records)]  # noqa: E731
    assert names([str(mine), str(yours), str(telea)]) == ["lbam (mine)", "lbam (yours)", "telea"]
    assert names({"ours": str(mine), "theirs": str(yours)}) == ["ours", "theirs"]
    assert names(str(tmp_path)) == names(f"{tmp_path}/*.parquet") == ["lbam (mine)", "telea", "lbam (yours)"]
    assert names({"both": f"{tmp_path}/[mt]*.parquet", "other": str(yours)}) == ["both (lbam)", "both (telea)", "other"]
    assert names([str(mine), str(tmp_path)]) == ["lbam (mine)", "telea", "lbam (yours)"]  # read once
    for person, path in {"a": mine, "b": yours}.items():
        (tmp_path / person / "eval").mkdir(parents=True)
        path.rename(tmp_path / person / "eval" / "records.parquet")
    assert names([f"{tmp_path}/a", f"{tmp_path}/b"]) == ["lbam (a)", "lbam (b)"]
    with pytest.raises(InputError, match="a and b are the same evaluation"):
        read_listed({"a": f"{tmp_path}/a", "b": f"{tmp_path}/a/eval/records.parquet"})
    with pytest.raises(InputError, match=r"none\.parquet does not exist: list files that src.evaluate wrote"):
        read_listed(f"{tmp_path}/none.parquet")
    with pytest.raises(InputError, match="no file of records matches"):
        read_listed(f"{tmp_path}/x*.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty and its subdirectories have no records"):
        read_listed(str(tmp_path / "empty"))
    with pytest.raises(InputError, match="records lists no files"):
        read_listed([])
    with pytest.raises(InputError, match="records must be a path, a list"):
        read_listed(3)


def test_images_in_other_directories_are_the_same_images(write):
    board = leaderboard(
        read_listed([str(write("mine")), str(write("yours", change=lambda f: f.assign(data="folder")))])
    )
    assert [row.means[-1] for row in board.table.groups[0].rows] == pytest.approx([31.0, 25.2])
    assert board.methods[1].frame["path"].tolist() == [f"test/{i}.png" for i in range(5)]
    assert "5 images are too few" in " ".join(board.table.notes)
    assert not any("contents" in note for note in board.table.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sha256_of_file_list": "00" * 32},
            r"test images \(hash of their relative names\) \(5a5a5a5a5a5a... and 0000",
        ),
        ({CONTENTS: "00" * 32}, r"contents of the test images \(hash\)"),
        ({"crop_seed": 1}, None),  # the other file has no such fact
        ({"change": lambda frame: frame[:-1]}, r"mine.parquet \(lbam \(mine\)\) has 5 records and .* has 4"),
        (
            {"change": lambda frame: frame.assign(path=frame["path"].str.replace("4.png", "9.png"))},
            r"different images, such as test/4\.png and test/9\.png",
        ),
    ],
)
def test_records_of_other_tests_are_refused(write, changes, message):
    files = [str(write("mine")), str(write("yours", **changes))]
    if message is None:
        leaderboard(read_listed(files))
        return
    with pytest.raises(InputError, match=message):
        leaderboard(read_listed(files))


def test_another_bank_or_transform_is_refused(write, provenance):
    mine = str(write("mine"))
    other_bank = str(write("yours", made=replace(provenance, mask_bank_hash="00" * 32)))
    with pytest.raises(InputError, match=r"mine.*and .*yours.*different tests: mask bank \(3f3f.*bank=<the bank\.npz"):
        leaderboard(read_listed([mine, other_bank]))
    config = {"data": {"transforms": {"evaluation": {"image_size": 64}}}}
    one = str(write("mine", made=replace(provenance, config=config)))
    config = {"data": {"transforms": {"evaluation": {"image_size": 32}}}}
    other = str(write("yours", made=replace(provenance, config=config)))
    with pytest.raises(InputError, match=r"evaluation transform \(\{'image_size': 64\} and"):
        leaderboard(read_listed([one, other]))


def test_set_scores_of_other_features_are_not_compared(write, provenance):
    made = [replace(provenance, config={"features": features}) for features in ("pytorch_fid", "nvidia")]
    scores = [SetEstimate("fid", "all", 5, value) for value in (20.0, 10.0)]
    same = [str(write(person, made=made[0], set_scores=[one])) for person, one in zip(SCORES, scores, strict=True)]
    group = leaderboard(read_listed(same)).table.groups[-1]
    assert [(row.method, row.means[-1]) for row in group.rows] == [("lbam (yours)", 10.0), ("lbam (mine)", 20.0)]
    other = str(write("yours", made=made[1], set_scores=[scores[1]]))
    table = leaderboard(read_listed([same[0], other])).table
    assert all(group.metric.name != "fid" for group in table.groups)
    assert any("different features: lbam (mine) pytorch_fid, lbam (yours) nvidia" in note for note in table.notes)


def test_merging_writes_tables_tests_and_provenance_and_a_file_to_merge_again(write, composed, tmp_path):
    merged, third = tmp_path / "all" / "merged.parquet", write("third", "telea")
    mine, yours = write("mine", change=lambda f: f.assign(composite_seam_percent=1.0)), write("yours")
    cfg = composed(f"records=[{mine},{yours}]", f"merged={merged}", config="evaluate")
    first = merge_records(cfg)
    out = Path(cfg.output_dir)
    text = (out / "table.md").read_text()
    assert {path.name for path in out.iterdir()} >= {"table.md", "table.csv", "tests.csv", "report.html"}
    assert "ab" * 32 in text  # the checkpoint's hash
    assert "0123abc" in text
    assert str(mine) in text
    again = leaderboard(read_listed([str(merged), str(third), str(mine)]))
    assert [each.origin.method for each in again.methods] == ["lbam (mine)", "lbam (yours)", "telea"]
    assert again.methods[0].origin == first.methods[0].origin
    assert "composite_seam_percent" not in again.methods[1].frame
    with pytest.raises(InputError, match="merged records of several methods, expected those of one"):
        read_records(merged)
    with pytest.raises(InputError, match=r"scores nothing: leave out model="):
        merge_records(composed(f"records={mine}", "model=telea", config="evaluate"))


def test_older_files_are_read_and_newer_ones_refused(write):
    path = write("mine")
    table = pq.read_table(path)
    facts = dict(table.schema.metadata)
    assert facts.pop(b"inpainting_suite.records_version") == b"2"
    older = table.rename_columns([name.replace("hole_ratio", "hole_share") for name in table.column_names])
    pq.write_table(older.replace_schema_metadata(facts), path)
    assert read_methods(path)[0].frame["hole_ratio"].tolist()[0] == 0.45
    pq.write_table(table.replace_schema_metadata({**facts, b"inpainting_suite.records_version": b"3"}), path)
    with pytest.raises(InputError, match="records of version 3, but this version of the suite reads versions up to 2"):
        read_records(path)


def test_contents_of_images_are_hashed_with_their_relative_names(tmp_path):
    for root, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / root / "test").mkdir(parents=True)
        (tmp_path / root / "test" / "x.png").write_bytes(content)
    hashes = [hash_contents(tmp_path / root, [f"{tmp_path / root}/test/x.png"] * 2) for root in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]
