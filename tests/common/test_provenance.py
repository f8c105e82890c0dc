import json
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch

from src.common.provenance import HashedFile, Provenance, Revision, code_revision


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_json_round_trip(provenance):
    assert Provenance.from_json(provenance.to_json()) == provenance
    without = replace(provenance, checkpoint=None)
    assert Provenance.from_json(without.to_json()) == without


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seed": 0}', "[" * 100_000, b"\xff"])
def test_other_json_is_rejected(text):
    with pytest.raises(ValueError, match=r"\w+"):
        Provenance.from_json(text)


@pytest.mark.parametrize(
    ("entry", "value"),
    [("seed", "0"), ("seed", 1.5), ("config", []), ("checkpoint", {"path": "a"}), ("revision", None), ("more", 1),
     ("duration_s", "1"), ("versions", {"torch": 2})],
)  # fmt: skip
def test_entries_of_other_kinds_are_named(provenance, entry, value):
    content = json.loads(provenance.to_json()) | {entry: value}
    with pytest.raises(ValueError, match=entry):
        Provenance.from_json(json.dumps(content))


def test_revision_of_a_clean_and_a_changed_checkout(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert code_revision(checkout / "code.py") == Revision(commit, dirty=False)
    (checkout / "new.yaml").write_text("a: 1\n")
    assert code_revision(checkout / "code.py") == Revision(commit, dirty=True)
    (checkout / "new.yaml").unlink()
    (checkout / "code.py").write_text("2\n")
    assert code_revision(checkout / "code.py") == Revision(commit, dirty=True)


def test_revision_is_unknown_outside_a_checkout_and_for_files_it_does_not_track(checkout, tmp_path_factory):
    installed = checkout / ".venv" / "code.py"
    installed.parent.mkdir()
    installed.write_text("1\n")
    assert code_revision(installed) == Revision("unknown", dirty=None)
    outside = tmp_path_factory.mktemp("outside") / "code.py"
    outside.write_text("1\n")
    assert code_revision(outside) == Revision("unknown", dirty=None)


def test_revision_is_unknown_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code_revision(checkout / "code.py") == Revision("unknown", dirty=None)


def test_checkpoint_hash_is_the_sha256_of_its_bytes(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"abc")  # the example of FIPS 180-2
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert HashedFile.of(path) == HashedFile(str(path), expected)


def test_collect_adds_revision_versions_and_duration():
    started = datetime.now(timezone.utc) - timedelta(seconds=3)
    made = Provenance.collect(
        config={"a": [1, None]},
        seed=0,
        data={"name": "photos"},
        mask_bank_hash="00",
        checkpoint=None,
        device=torch.device("cpu"),
        started=started,
    )
    assert 3 <= made.duration_s < 60
    assert datetime.fromisoformat(made.started).tzinfo is not None
    assert made.versions["torch"] == torch.__version__
    assert made.device.endswith("threads")
    assert made.absent_scores == {}
