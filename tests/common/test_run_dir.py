"""Run directories of commands that start in the same second."""

from src.common.run_dir import create_unused_dir


def test_a_second_run_gets_a_directory_of_its_own(tmp_path, monkeypatch):
    for variable in ("SLURM_STEP_ID", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    new = tmp_path / "outputs" / "12-00-00"
    assert [create_unused_dir(new) for _ in range(3)] == [new, new.with_name("12-00-00_1"), new.with_name("12-00-00_2")]
    monkeypatch.setenv("LOCAL_RANK", "1")  # a process of a run shares its directory
    assert create_unused_dir(new) == new
