"""Exported networks compute the same, bit for bit, and replace checkpoints."""

import json
import re
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from src.checkpoints.reading import load_checkpoint
from src.common.errors import InputError, report_input_errors
from src.evaluation.scoring import evaluate
from src.export import export
from src.exporting.directory import ExportContents, write_export
from src.training.run import train

ROOT = Path(__file__).parents[1]
MODELS = [path.stem for path in sorted((ROOT / "conf" / "model").glob("*.yaml")) if "training" in OmegaConf.load(path)]
RELEASES = [path.stem for path in sorted((ROOT / "conf" / "model").glob("*_release.yaml"))]


def untrained(tmp_path, model):
    """A checkpoint of a network whose weights differ from its initial ones."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("train", [f"model={model}", "scale=smoke", "output_dir=none"])
    config = OmegaConf.to_container(composed, resolve=True)
    torch.manual_seed(5)
    network = instantiate(config["model"]["network"])
    weights = {f"network.{name}": t + 1 if "running" in name else t for name, t in network.state_dict().items()}
    critic = {"loss.terms.adversarial.critic.weight": torch.ones(9)}
    torch.save({"state_dict": weights | critic, "config": config, "global_step": 7}, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def exported(ckpt, output, *overrides):
    is_initialized = GlobalHydra.instance().is_initialized()  # by `composed`
    with nullcontext() if is_initialized else initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return export(compose("export", [f"ckpt={ckpt}", f"output={output}", *overrides]))[0]


@pytest.fixture(scope="module")
def pconv_export(tmp_path_factory):
    """An untrained checkpoint of PConv, a.ckpt, and its export directory, exported/. Tests get copies."""
    directory = tmp_path_factory.mktemp("pconv")
    exported(untrained(directory, "pconv"), directory / "exported")
    return directory


@pytest.fixture
def folder(tmp_path, pconv_export):
    shutil.copytree(pconv_export, tmp_path, dirs_exist_ok=True)
    return tmp_path / "exported"


@pytest.mark.parametrize("model", sorted({*MODELS, *RELEASES}))
def test_the_exported_network_computes_the_same_bit_for_bit(tmp_path, model):
    ckpt = untrained(tmp_path, model)
    before, after = load_checkpoint(ckpt), load_checkpoint(exported(ckpt, tmp_path / "exported"))
    assert (after.config, after.step) == (before.config, 7)
    generator = torch.Generator().manual_seed(0)
    image, mask = torch.rand(2, 3, 48, 64, generator=generator), torch.ones(2, 1, 48, 64)
    mask[..., 12:36, 20:50] = 0
    edges = (image[:, :1] > 0.9).float()
    with torch.no_grad():
        outputs = [checkpoint.network(image, mask, edges).prediction for checkpoint in (before, after)]
    assert torch.equal(*outputs)


def test_other_tools_can_read_the_files(tmp_path, folder):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.yaml", "model.safetensors"]
    assert load_file(folder / "model.safetensors").keys() == load_checkpoint(folder).network.state_dict().keys()
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["name"] == "pconv"
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        facts = file.metadata()
    assert (facts["model"], facts["step"], len(facts["checkpoint_sha256"])) == ("pconv", "7", 64)


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path, folder):
    halved = exported(folder, tmp_path / "half", "half=true")
    sizes = [(path / "model.safetensors").stat().st_size for path in (halved, folder)]
    assert 0.4 < sizes[0] / sizes[1] < 0.7  # names and metadata keep their size
    stored = load_file(halved / "model.safetensors")
    assert {t.dtype for t in stored.values() if t.is_floating_point()} == {torch.float16}
    for name, weight in load_checkpoint(halved).network.state_dict().items():
        full = load_checkpoint(folder).network.state_dict()[name]
        assert weight.dtype == full.dtype
        torch.testing.assert_close(weight, full, rtol=2**-10, atol=2**-24)


def test_half_precision_rejects_values_beyond_float16(tmp_path, pconv_export):
    checkpoint = load_checkpoint(pconv_export / "a.ckpt")
    next(checkpoint.network.parameters()).data.fill_(1e5)
    with pytest.raises(InputError, match=r"holds 1e\+05, beyond float16's maximum 65504: export with half=false"):
        write_export(tmp_path / "out", checkpoint, ExportContents(half=True))


def test_local_paths_are_not_exported(tmp_path, pconv_export):
    checkpoint = load_checkpoint(pconv_export / "a.ckpt")
    config = checkpoint.config | {
        "output_dir": "/home/me/runs/1",
        "data": {"root": "/home/me/photos", "list": ["/a/b"]},
    }
    write_export(tmp_path / "out", replace(checkpoint, config=config), ExportContents())
    written = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert (written["output_dir"], written["data"]) == ("1", {"root": "photos", "list": ["b"]})


def test_directory_weights_file_and_second_export_are_the_same_network(tmp_path, folder):
    again = exported(folder / "model.safetensors", tmp_path / "again")
    for path in (folder, folder / "model.safetensors", again):
        assert load_checkpoint(path).path.name == "model.safetensors"
    assert (again / "config.yaml").read_text() == (folder / "config.yaml").read_text()
    states = [load_checkpoint(path).network.state_dict() for path in (folder, again)]
    assert all(torch.equal(t, states[1][name]) for name, t in states[0].items())


def test_exports_of_one_checkpoint_have_equal_bytes(tmp_path, folder):
    first, second = (exported(folder, tmp_path / name) for name in ("first", "second"))
    for name in ("model.safetensors", "config.yaml", "README.md"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    header = (first / "model.safetensors").read_bytes()[8:]
    metadata = json.loads(header[: header.index(b"}") + 1] + b"}")["__metadata__"]
    assert list(metadata) == sorted(metadata)
    assert len(metadata) > 3


def test_an_export_replaces_an_older_one_atomically(tmp_path, folder, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    ckpt = untrained(tmp_path, "lbam")
    with monkeypatch.context() as patch:
        patch.setattr(
            "src.checkpoints.export_directory.yaml", SimpleNamespace(safe_dump=full)
        )  # the second of the files
        with pytest.raises(InputError, match="No space left"):
            exported(ckpt, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    exported(ckpt, folder)
    assert load_checkpoint(folder).config["model"]["name"] == "lbam"


def test_export_can_be_fine_tuned(folder, composed):
    cfg = composed("model=pconv", f"start_from={folder}", "scale.learning_rate=0")
    started = train(cfg).lightning_module.network.get_parameter("encoder.1.conv.conv.weight")
    assert torch.equal(started, load_checkpoint(folder).network.encoder[1].conv.conv.weight)


def test_export_cannot_be_resumed(folder, composed):
    with pytest.raises(InputError, match="start_from="):
        train(composed("model=pconv", f"resume={folder}"))


def test_rejects_invalid_keys_before_any_work(tmp_path, monkeypatch):
    for override, message in {
        "formats=[tflite]": "formats=tflite: unknown format; choose from safetensors, onnx, torch",
        "edges=found": "edges must be known or given, got 'found'",
        "size=0": r"size=0: expected null \(any size\), a side in px, or \[height,width\]",
        "size=[64]": r"size=\[64\]: expected null",
        "push=a/b/c": "'a/b/c' is neither a directory nor a Hub repository",
    }.items():
        with pytest.raises(InputError, match=message):
            exported("gone.ckpt", tmp_path / "x", override)
    monkeypatch.setattr("src.exporting.run.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"needs the package huggingface-hub: pip install -c constraints.txt -e '\.\[export\]'"
    ):
        exported("gone.ckpt", tmp_path / "x", "push=me/lbam")
    monkeypatch.setitem(sys.modules, "src.checkpoints.hub", None)
    with pytest.raises(InputError, match="hf://me/lbam needs the package huggingface-hub"):
        exported("hf://me/lbam", tmp_path / "x")


def test_reads_from_the_hub_and_pushes_to_it(tmp_path, folder, monkeypatch):
    sent = []
    monkeypatch.setattr("src.exporting.hub.push", lambda *args, **options: sent.append((args, options)))
    monkeypatch.setattr("src.checkpoints.hub.download", lambda address: folder)
    output = exported("hf://me/pconv", tmp_path / "again", "push=me/other", "private=false")
    assert sent == [((output, "me/other"), {"private": False, "formats": []})]
    assert load_checkpoint(output).step == 7


def test_card_shows_scores_of_its_weights_beside_other_methods(tmp_path, folder, composed):
    settings = ["scale=smoke", "bank_masks_per_bin=1", "batch_size=2"]
    records = {
        name: evaluate(composed(method, *settings, f"output_dir={tmp_path / name}", config="evaluate"))
        for name, method in {"own": f"ckpt={folder}", "mean": "model=mean_colour"}.items()
    }
    listed = f"records=[{records['mean']},{records['own']}]"
    card = (exported(folder, tmp_path / "again", listed) / "README.md").read_text()
    assert "this network is pconv. Masks: irregular (bank " in card
    for row in (
        r"\| Metric \| Method \| \(0,0.1\], n=1 \|.* all, n=4",
        r"\| mean_colour \| [*\d.]+ \|",
        r"\| pconv \| [*\d.]+ \|",
    ):
        assert re.search(row, card), row
    with pytest.raises(InputError, match=r"mean/records.parquet are of other weights than ckpt="):
        exported(folder, tmp_path / "mean_alone", f"records={records['mean']}")
    (folder / "model.safetensors").write_bytes(save(load_file(folder / "model.safetensors")))  # without metadata
    with pytest.raises(InputError, match="are of other weights than ckpt="):
        exported(folder, tmp_path / "other", f"records={records['own']}")


def test_card_has_the_training_command_without_local_paths(tmp_path, folder):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(untrained(tmp_path, "lbam"), run / "checkpoints" / "best.ckpt")
    (run / ".hydra").mkdir()
    (run / ".hydra" / "overrides.yaml").write_text(
        "[model=lbam, data.root=/home/me/photos/, output_dir=/x, 'a=[b/*,/home/me/c]', 'd={e: /home/f}', weights=hf://u/n]"
    )
    card = (exported(run, tmp_path / "out") / "README.md").read_text()
    assert (
        "    python -m src.train model=lbam data.root=photos/ 'a=[b/*,c]' 'd={e: f}' weights=hf://u/n\n\ntrains it"
        in card
    )


def test_errors_name_the_path(tmp_path, folder):
    with pytest.raises(InputError, match=r"no checkpoint at .*gone\.ckpt"):
        exported(tmp_path / "gone.ckpt", tmp_path / "x")
    with pytest.raises(InputError, match="expected a directory"):
        exported(folder, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"no network export at .*model\.safetensors"):
        load_checkpoint(tmp_path)
    shutil.copy(folder / "model.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(InputError, match=r"no config\.yaml next to .*alone\.safetensors"):
        load_checkpoint(tmp_path / "alone.safetensors")


@pytest.mark.parametrize("name", ["README.md", "config.yaml", "model.onnx", "model.pt2"])
def test_does_not_replace_files_of_other_software(tmp_path, folder, name):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / name).write_text("mine")
    with pytest.raises(
        InputError, match=rf"output=.*project has a {name} but no model.safetensors, .*: choose another directory"
    ):
        exported(tmp_path / "gone.ckpt", tmp_path / "project")
    with pytest.raises(InputError, match=rf"project has a {name} but no model.safetensors"):
        write_export(tmp_path / "project", load_checkpoint(folder), ExportContents())
    assert [(path.name, path.read_text()) for path in (tmp_path / "project").iterdir()] == [(name, "mine")]
    (folder / "README.md").unlink()  # as older versions wrote it
    assert (exported(folder, folder) / "README.md").is_file()


def test_rejects_edited_or_corrupt_export(folder):
    weights, config = folder / "model.safetensors", folder / "config.yaml"
    tensors, text = load_file(weights), config.read_text()
    config.write_text(text.replace("src.networks.pconv.PConv", "shutil.rmtree"))
    with pytest.raises(InputError, match=r"the config calls 'shutil\.rmtree', which is not trusted"):
        load_checkpoint(folder)
    config.write_text(text.replace("\n  network:\n", "\n  work:\n"))
    with pytest.raises(InputError, match=r"no model\.network"):
        load_checkpoint(folder)
    config.write_text("model: [")
    with pytest.raises(InputError, match=r"config\.yaml is corrupt"):
        load_checkpoint(folder)
    config.write_text(text)
    dropped = tensors.pop("encoder.0.conv.bias")
    save_file(tensors | {"encoder.0.bias": dropped}, weights)
    expected = r"do not fit src\.networks\.pconv\.PConv: 1 missing \(encoder\.0\.conv\.bias\); 1 unexpected \(encoder"
    with pytest.raises(InputError, match=expected):
        load_checkpoint(folder)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors is corrupt"):
        load_checkpoint(folder)


def test_command_prints_what_it_wrote(tmp_path, pconv_export, commands):
    ended = commands("export", f"ckpt={pconv_export / 'a.ckpt'}", "output=out", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "out: model.safetensors (0." in ended.out
    assert "error: missing values, set output=" in commands("export", cwd=tmp_path).err


def test_interrupted_export_keeps_the_earlier_one(pconv_export, tmp_path, monkeypatch, capsys):
    shutil.copytree(pconv_export / "exported", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("src.checkpoints.export_directory.strip_local_paths", interrupted)  # the weights are written
    with pytest.raises(SystemExit, match="130"):
        report_input_errors(exported)(pconv_export / "a.ckpt", tmp_path / "out", "half=true")
    assert "interrupted by Ctrl-C" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
