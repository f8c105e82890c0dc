"""The Hugging Face Hub, played by a folder: what is uploaded and loaded, and what is said when it can't be."""

import pytest
import torch
import yaml

pytest.importorskip("huggingface_hub", reason="the Hub needs the extra `export`", exc_type=ModuleNotFoundError)

import httpx
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from src.checkpoints import hub
from src.checkpoints.export_directory import write_exported
from src.checkpoints.hub import HubInpainter, check_name, downloaded, push
from src.checkpoints.reading import load_checkpoint
from src.common.errors import InputError
from src.exporting.folder import write_folder
from src.networks.pconv import PConv

CONFIG = {"model": {"name": "pconv", "network": {"_target_": "src.networks.pconv.PConv", "width": 0.02, "levels": 2}}}
FILES = ["README.md", "config.yaml", "model.safetensors"]


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(1)
    write_exported(tmp_path / "run", PConv(0.02, 2), CONFIG, {"step": "5"})
    return load_checkpoint(tmp_path / "run")


@pytest.fixture
def uploads(monkeypatch, tmp_path):
    """What would be uploaded, by repository: the files' names and how."""
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


def refusing(error):
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


def test_its_own_files_go_to_a_private_repository(checkpoint, uploads):
    assert HubInpainter(checkpoint).push_to_hub("me/pconv", token="t") == "https://huggingface.co/me/pconv/commit/1"
    sent = uploads["me/pconv"]
    assert (sorted(sent["files"]), sent["private"], sent["token"]) == (FILES, True, "t")
    assert sent["delete_patterns"] == ["model.onnx", "model.pt2"]
    HubInpainter(checkpoint).push_to_hub("me/open", private=False)
    assert uploads["me/open"]["private"] is False


def test_of_a_folder_nothing_else_goes(tmp_path, checkpoint, uploads):
    write_folder(tmp_path / "out", checkpoint)
    for name in ("notes.txt", "model.onnx"):
        (tmp_path / "out" / name).write_text("x")
    push(tmp_path / "out", "me/pconv", private=True, formats=["onnx"])
    assert sorted(uploads["me/pconv"]["files"]) == sorted([*FILES, "model.onnx"])
    assert uploads["me/pconv"]["delete_patterns"] == ["model.pt2"]


def test_a_repository_is_fetched_and_trusted_no_more_than_any_file(tmp_path, checkpoint, monkeypatch):
    write_folder(tmp_path / "remote", checkpoint)
    asked = []

    def fetch(repo_id, revision, allow_patterns, **how):
        asked.append((repo_id, revision, sorted(allow_patterns), how))
        return str(tmp_path / "remote")

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    assert downloaded("hf://me/pconv@v1") == tmp_path / "remote"
    assert HubInpainter.from_pretrained("me/pconv", token="t").checkpoint.step == 5
    assert asked == [("me/pconv", "v1", FILES, {}), ("me/pconv", None, FILES, {"token": "t"})]
    config = yaml.safe_load((tmp_path / "remote" / "config.yaml").read_text())
    config["model"]["network"]["_target_"] = "os.system"
    (tmp_path / "remote" / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match=r"wants to call 'os\.system'"):
        HubInpainter.from_pretrained("me/pconv")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx.ConnectError("no route"), "me/pconv can't be had: the Hub can't be reached"),
        (RepositoryNotFoundError("404", response=answer(404)), "there is no me/pconv on the Hub that may be seen"),
        (HfHubHTTPError("403", response=answer(403)), "me/pconv needs a token that may do this: log in by `hf auth"),
        (HfHubHTTPError("Too many\nrequests", response=answer(429)), "the Hub refuses me/pconv: Too many$"),
    ],
)
def test_what_goes_wrong_is_a_sentence(tmp_path, monkeypatch, uploads, error, said):
    monkeypatch.setattr(hub, "snapshot_download", refusing(error))
    monkeypatch.setattr(hub.HfApi, "create_repo", refusing(error))
    with pytest.raises(InputError, match=said):
        downloaded("hf://me/pconv")
    with pytest.raises(InputError, match=said):
        push(tmp_path, "me/pconv", private=True)


def test_a_wrong_name_is_said_before_any_work():
    for name in ("a/b/c", "my net", "../x"):
        with pytest.raises(InputError, match="is neither a folder nor a repository of the Hub: give user/name"):
            check_name(name)
