"""`weights=`: shipped sizes, paths and Hub repositories, their SHA-256, and the commands that take it."""

import shutil

import pytest
import torch
from hydra import compose

from src.checkpoints import reading
from src.checkpoints.reading import SHA256SUMS, SHIPPED, load_checkpoint
from src.checkpoints.weights import find_weights, list_shipped, load_weights
from src.common.errors import InputError
from src.common.provenance import HashedFile
from src.evaluation.records import read_records
from src.evaluation.scoring import evaluate
from src.exporting.run import export
from src.prediction import load
from src.prediction.loading import load_methods
from src.prediction.sizes import Whole
from src.training.run import train
from src.training.setup import require_recipe


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A copy of the shipped networks that a test may change."""
    shutil.copytree(SHIPPED, tmp_path / "shipped")
    monkeypatch.setattr(reading, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "shipped"


def test_every_shipped_file_is_listed_with_its_sha256():
    """After a change: (cd src/checkpoints/shipped && sha256sum */config.yaml */model.safetensors > SHA256SUMS)."""
    files = sorted(SHIPPED.glob("*/config.yaml")) + sorted(SHIPPED.glob("*/model.safetensors"))
    expected = [f"{HashedFile.of(file).sha256}  {file.relative_to(SHIPPED)}" for file in files]
    assert files
    assert (SHIPPED / SHA256SUMS).read_text().splitlines() == expected


@pytest.mark.parametrize(("model", "size"), list_shipped())
def test_shipped_weights_are_of_the_model_that_names_their_directory(model, size):
    assert find_weights(size, model) == str(SHIPPED / f"{model}-{size}")
    assert load_weights(size, model).model == model


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml"])
def test_truncated_or_replaced_shipped_files_are_errors(shipped, name):
    file = shipped / "pconv-small" / name
    load_checkpoint(file.parent)
    content = file.read_bytes()
    for changed in (content[:-100], content[:-1] + b"\n\n"):
        file.write_bytes(changed)
        for path in (file.parent, file.with_name("model.safetensors")):
            with pytest.raises(
                InputError, match=rf"{name} has the SHA-256 \w{{64}}, expected \w{{64}}: it is truncated"
            ):
                load_checkpoint(path)
    (shipped / SHA256SUMS).write_text("")
    with pytest.raises(InputError, match=r"is not listed in .*SHA256SUMS"):
        load_checkpoint(file.parent)


@pytest.mark.parametrize(
    ("weights", "model", "excluded", "message"),
    [
        ("large", "pconv", {}, r"weights=large is neither a shipped size of model=pconv \(small\) nor a path; or pass"),
        ("small", "gl", {}, r"no weights of model=gl are shipped, only .*model=pconv weights=small"),
        ("small", None, {}, r"weights=small needs model=, as in .*model=pconv weights=small"),
        ("small", "telea", {}, "model=telea is a classical method and has no weights: omit weights=small"),
        ("small", "pconv", {"ckpt": "a.ckpt"}, "ckpt=a.ckpt and weights=small both name the weights: pass one of them"),
        ("gone/best.ckpt", "pconv", {}, "no checkpoint at gone/best.ckpt"),
        (f"{SHIPPED}/pconv-small", "lbam", {}, r"are of model=pconv, not of model=lbam: set model=pconv, or pass"),
    ],
)
def test_errors_say_what_to_pass(weights, model, excluded, message):
    with pytest.raises(InputError, match=message):
        load_weights(weights, model, **excluded)


def test_paths_and_addresses_are_checked_against_a_sha256(tmp_path, untrained, monkeypatch):
    directory, run = untrained / "edge_lbam", untrained / "demo" / "lbam"
    monkeypatch.setattr("src.checkpoints.hub.snapshot_download", lambda name, **how: directory)
    files = {str(directory): directory / "model.safetensors", str(run): run / "checkpoints" / "best.ckpt"}
    files |= {"hf://user/name@main": directory / "model.safetensors"}
    for address, file in files.items():
        digest = HashedFile.of(file).sha256
        model = "lbam" if file.suffix == ".ckpt" else "edge_lbam"
        assert load_weights(f"{address}#sha256={digest.upper()}", model).path == file
        with pytest.raises(
            InputError, match=rf"{file.name} has the SHA-256 {digest}, expected 0{{64}}: .*correct #sha"
        ):
            load_weights(f"{address}#sha256={'0' * 64}", model)
        for wrong in ("", "12", "z" * 64):
            with pytest.raises(InputError, match="a SHA-256 has 64 hexadecimal digits"):
                load_weights(f"{address}#sha256={wrong}", model)
    monkeypatch.chdir(untrained)
    assert find_weights("edge_lbam", "edge_lbam") == "edge_lbam"  # a directory, not a size


def test_python_loads_a_model_with_weights(untrained):
    for inpaint in (load("pconv", weights="small", device="cpu"), load("pconv", weights=f"{SHIPPED}/pconv-small")):
        assert inpaint.name == "pconv"
    methods = load_methods(None, ["pconv", "telea"], "cpu", Whole(), weights="small")
    assert list(methods) == ["pconv", "telea"]
    assert list(load_methods(None, None, "cpu", Whole(), weights=str(untrained / "edge_lbam"))) == ["edge_lbam"]
    for changes in ({"ckpt": "a.ckpt", "methods": None}, {"ckpt": None, "methods": "telea"}):
        with pytest.raises(InputError, match="weights=small"):
            load_methods(**changes, device="cpu", size=Whole(), weights="small")
    with pytest.raises(InputError, match=r"methods=\[\.\.\.\]:pconv is not a classical method .*: add weights="):
        load_methods(None, "pconv", "cpu", Whole())
    with pytest.raises(InputError, match="a model's name needs weights="):
        load("pconv")


def test_export_and_evaluate_use_shipped_weights(tmp_path, composed):
    names = ["model=pconv", "weights=small"]
    directory, _ = export(compose("export", [*names, f"output={tmp_path / 'exported'}"]))
    states = [load_checkpoint(path).network.state_dict() for path in (directory, SHIPPED / "pconv-small")]
    assert all(torch.equal(states[0][name], tensor) for name, tensor in states[1].items())
    with pytest.raises(InputError, match="nothing to export: pass ckpt=<checkpoint>, or model="):
        export(compose("export", ["model=pconv", f"output={tmp_path / 'exported'}"]))
    small = ["bank_masks_per_bin=1", "test_size=32", "scale.test_batches=1", f"output_dir={tmp_path / 'evaluated'}"]
    records, provenance = read_records(evaluate(composed(*names, *small, config="evaluate")))
    assert set(records["method"]) == {"pconv"}
    assert provenance.checkpoint.sha256 == HashedFile.of(SHIPPED / "pconv-small" / "model.safetensors").sha256
    with pytest.raises(InputError, match=r"ckpt=a\.ckpt and weights=small both name the weights"):
        evaluate(composed(*names, "ckpt=a.ckpt", config="evaluate"))


def test_training_starts_from_weights(composed, untrained, tmp_path):
    run = f"weights={untrained / 'demo' / 'lbam'}"
    trainer = train(composed("model=lbam", run, "scale.max_steps=1", "scale.learning_rate=0"))
    before = load_checkpoint(untrained / "demo" / "lbam").network.state_dict()
    after = trainer.lightning_module.network.state_dict()
    names = [name for name, _ in trainer.lightning_module.network.named_parameters()]
    assert all(torch.equal(before[name], after[name]) for name in names)
    with pytest.raises(InputError, match=r"start_from=a\.ckpt and weights=.* both name the weights"):
        train(composed("model=lbam", run, "start_from=a.ckpt"))
    with pytest.raises(
        InputError, match=r"weights=small holds another network \(trained at scale=small, not scale=smoke"
    ):
        train(composed("model=pconv", "weights=small"))
    with pytest.raises(InputError, match=r"resume=b\.ckpt and weights=small exclude each other"):
        require_recipe(composed("model=pconv", "weights=small", "resume=b.ckpt"))
