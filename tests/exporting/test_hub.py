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
from src.exporting.directory import write_export
from src.exporting.hub import HubInpainter, push, require_repo_id
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
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, repo_id, private, exist_ok):
            kept[repo_id] = {"private": private, "exist_ok": exist_ok}

        def upload_folder(self, repo_id, folder_path, allow_patterns, **how):
            files = {name: (folder_path / name).read_bytes() for name in allow_patterns}
            kept[repo_id] |= {"files": files, "token": self.token, **how}
            return f"https://huggingface.co/{repo_id}/commit/1"

    monkeypatch.setattr(hub, "HfApi", Api)
    return kept


def raising(error):
    def call(*args, **kwargs):
        raise error

    return call


def answer(status):
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co"))


def test_a_network_is_saved_and_comes_back(tmp_path, checkpoint):
    HubInpainter(checkpoint).save_pretrained(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == FILES
    back = HubInpainter.from_pretrained(tmp_path / "saved")
    assert back.checkpoint.step == 5
    for name, tensor in checkpoint.network.state_dict().items():
        assert torch.equal(back.network.state_dict()[name], tensor)


def test_the_default_repository_is_private(checkpoint, uploads):
    assert HubInpainter(checkpoint).push_to_hub("me/pconv", token="t") == "https://huggingface.co/me/pconv/commit/1"
    sent = uploads["me/pconv"]
    assert (sorted(sent["files"]), sent["private"], sent["token"]) == (FILES, True, "t")
    assert sent["delete_patterns"] == ["model.onnx", "model.pt2"]
    HubInpainter(checkpoint).push_to_hub("me/open", private=False)
    assert uploads["me/open"]["private"] is False


def test_other_files_of_the_directory_stay_local(tmp_path, checkpoint, uploads):
    write_export(tmp_path / "out", checkpoint)
    for name in ("notes.txt", "model.onnx"):
        (tmp_path / "out" / name).write_text("x")
    push(tmp_path / "out", "me/pconv", private=True, formats=["onnx"])
    assert sorted(uploads["me/pconv"]["files"]) == sorted([*FILES, "model.onnx"])
    assert uploads["me/pconv"]["delete_patterns"] == ["model.pt2"]


def test_downloads_are_checked_as_any_checkpoint(tmp_path, checkpoint, monkeypatch):
    write_export(tmp_path / "remote", checkpoint)
    asked = []

    def fetch(repo_id, revision, allow_patterns, **how):
        asked.append((repo_id, revision, sorted(allow_patterns), how))
        return str(tmp_path / "remote")

    monkeypatch.setattr("src.checkpoints.hub.snapshot_download", fetch)
    assert download("hf://me/pconv@v1") == tmp_path / "remote"
    assert HubInpainter.from_pretrained("me/pconv", token="t").checkpoint.step == 5
    assert asked == [("me/pconv", "v1", FILES, {}), ("me/pconv", None, FILES, {"token": "t"})]
    config = yaml.safe_load((tmp_path / "remote" / "config.yaml").read_text())
    config["model"]["network"]["_target_"] = "os.system"
    (tmp_path / "remote" / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match=r"the config calls 'os\.system', which is not trusted"):
        HubInpainter.from_pretrained("me/pconv")


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


def test_an_invalid_name_is_rejected():
    for name in ("a/b/c", "my net", "../x"):
        with pytest.raises(InputError, match="is neither a directory nor a Hub repository: expected user/name"):
            require_repo_id(name)
