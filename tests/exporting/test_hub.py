"""The Hugging Face Hub, simulated by a directory: uploads, downloads and error messages."""

import pytest
import torch
import yaml

pytest.importorskip("huggingface_hub", reason="the Hub needs the extra `export`", exc_type=ModuleNotFoundError)

import httpx
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from src.checkpoints.export_directory import write_export_directory
from src.checkpoints.hub import download
from src.checkpoints.reading import load_checkpoint
from src.common.errors import InputError
from src.exporting import hub
from src.exporting.directory import ExportContents, write_export
from src.exporting.hub import push, require_repo_id
from src.networks.pconv import PConv

CONFIG = {"model": {"name": "pconv", "network": {"_target_": "src.networks.pconv.PConv", "width": 0.02, "levels": 2}}}
FILES = ["README.md", "config.yaml", "model.safetensors"]


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(1)
    write_export_directory(tmp_path / "run", PConv(0.02, 2), CONFIG, {"step": "5"})
    return load_checkpoint(tmp_path / "run")


@pytest.fixture
def uploads(monkeypatch, tmp_path):
    """Uploads by repository: the files with their content, and the options."""
    kept = {}

    class Api:
        def create_repo(self, repo_id, private, exist_ok):
            kept[repo_id] = {"private": private, "exist_ok": exist_ok}

        def upload_folder(self, repo_id, folder_path, allow_patterns, **options):
            kept[repo_id] |= {"files": {name: (folder_path / name).read_bytes() for name in allow_patterns}, **options}
            return f"https://huggingface.co/{repo_id}/commit/1"

    monkeypatch.setattr(hub, "HfApi", Api)
    return kept


def raising(error):
    def call(*args, **kwargs):
        raise error

    return call


def answer(status):
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co"))


def test_push_uploads_the_files_of_the_export_only(tmp_path, checkpoint, uploads):
    write_export(tmp_path / "out", checkpoint, ExportContents())
    for name in ("notes.txt", "model.onnx"):
        (tmp_path / "out" / name).write_text("x")
    assert push(tmp_path / "out", "me/pconv", private=True) == "https://huggingface.co/me/pconv/commit/1"
    sent = uploads["me/pconv"]
    assert (sorted(sent["files"]), sent["private"]) == (FILES, True)
    assert sent["delete_patterns"] == ["model.onnx", "model.pt2"]
    push(tmp_path / "out", "me/open", private=False, formats=["onnx"])
    sent = uploads["me/open"]
    assert (sorted(sent["files"]), sent["private"]) == (sorted([*FILES, "model.onnx"]), False)
    assert sent["delete_patterns"] == ["model.pt2"]


def test_downloads_are_checked_like_checkpoints(tmp_path, checkpoint, monkeypatch):
    write_export(tmp_path / "remote", checkpoint, ExportContents())
    requests = []

    def fetch(repo_id, revision, allow_patterns):
        requests.append((repo_id, revision, sorted(allow_patterns)))
        return str(tmp_path / "remote")

    monkeypatch.setattr("src.checkpoints.hub.snapshot_download", fetch)
    assert download("hf://me/pconv@v1") == tmp_path / "remote"
    downloaded = load_checkpoint("hf://me/pconv")
    assert downloaded.step == 5
    for name, tensor in checkpoint.network.state_dict().items():
        assert torch.equal(downloaded.network.state_dict()[name], tensor)
    assert requests == [("me/pconv", "v1", FILES), ("me/pconv", None, FILES)]
    config = yaml.safe_load((tmp_path / "remote" / "config.yaml").read_text())
    config["model"]["network"]["_target_"] = "os.system"
    (tmp_path / "remote" / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match=r"the config calls 'os\.system', which is not trusted"):
        load_checkpoint("hf://me/pconv")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (httpx.ConnectError("no route"), "me/pconv is unavailable: the Hub is unreachable"),
        (RepositoryNotFoundError("404", response=answer(404)), "me/pconv does not exist on the Hub or is private"),
        (HfHubHTTPError("403", response=answer(403)), "me/pconv needs a token with access to it: log in with `hf auth"),
        (
            HfHubHTTPError("Too many\nrequests", response=answer(429)),
            "the Hub rejected the request for me/pconv: Too many$",
        ),
    ],
)
def test_errors_name_the_repository(tmp_path, monkeypatch, uploads, error, message):
    monkeypatch.setattr("src.checkpoints.hub.snapshot_download", raising(error))
    monkeypatch.setattr(hub.HfApi, "create_repo", raising(error))
    with pytest.raises(InputError, match=message):
        download("hf://me/pconv")
    with pytest.raises(InputError, match=message):
        push(tmp_path, "me/pconv", private=True)


def test_rejects_invalid_repository_name():
    for name in ("a/b/c", "my net", "../x"):
        with pytest.raises(InputError, match="is neither a directory nor a Hub repository: expected user/name"):
            require_repo_id(name)
