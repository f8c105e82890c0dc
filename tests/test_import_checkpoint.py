"""A released file becomes a checkpoint for evaluation, prediction and training."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.testing import assert_close

from src.checkpoints.reading import load_checkpoint, read_checkpoint
from src.checkpoints.releases import COMPLETIONS, NETWORKS, load
from src.common.errors import InputError
from src.evaluation.records import read_records
from src.evaluation.scoring import evaluate
from src.import_checkpoint import import_checkpoint
from src.networks.layers.canny import DEFAULT_CANNY, EDGE_CONNECT_CANNY, RELEASED_CANNY
from src.networks.layers.edge_completion import keep_known, keep_predicted
from src.training.run import train

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def released_file(tmp_path_factory):
    """A file of contextual attention, the smallest release, with initial weights."""
    release = NETWORKS["contextual_attention"]
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("release") / "gen_00430000.pt"
    torch.save({release.released_name(ours): tensor for ours, tensor in release.make().state_dict().items()}, path)
    return path


@pytest.fixture
def imported(released_file, tmp_path):
    return run("name=contextual_attention", f"path={released_file}", f"output={tmp_path / 'imported.ckpt'}")


def run(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return import_checkpoint(compose("import_checkpoint", list(overrides)))


@pytest.mark.parametrize("name", NETWORKS)
def test_config_of_the_checkpoint_builds_the_released_network(name):
    released = NETWORKS[name].make().eval()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        configured = instantiate(compose("train", [f"model={name}_release", "scale=paper"]).model.network).eval()
    canny = {"edge_lbam": RELEASED_CANNY, "mecnet": RELEASED_CANNY}
    canny |= {"edge_connect": EDGE_CONNECT_CANNY, "edge_connect_edges": EDGE_CONNECT_CANNY}
    assert configured.canny == canny.get(name, DEFAULT_CANNY)
    if name in COMPLETIONS:
        assert configured.combine.func is keep_predicted if name == "edge_connect" else configured.combine is keep_known
        configured = configured.inpainting_network
    released.load_state_dict(configured.state_dict())
    image, mask = torch.rand(1, 3, 64, 72), torch.ones(1, 1, 64, 72)
    mask[..., 20:40, 20:40] = 0
    edges = (image[:, :1] > 0.9).float()
    with torch.no_grad():
        one, other = (network(image, mask, edges) for network in (released, configured))
    for part in ("prediction", "coarse", "edges"):
        assert_close(getattr(one, part), getattr(other, part), rtol=0, atol=0)


def test_release_of_several_files_is_imported_from_their_directory(released_file, imported, tmp_path):
    whole, parts = torch.load(released_file, weights_only=True), tmp_path / "parts"
    parts.mkdir()
    for part in ("coarse_generator", "fine_generator"):
        inside = {name.removeprefix(f"{part}."): t for name, t in whole.items() if name.startswith(f"{part}.")}
        torch.save(inside, parts / f"latest_net_{part}.pth")
    output = tmp_path / "from_parts.ckpt"
    run("name=contextual_attention", f"path={parts}", f"output={output}")
    ours, expected = load_checkpoint(output), load_checkpoint(imported).network.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in ours.network.state_dict().items())
    assert ours.config["files"].keys() == {"path/coarse_generator", "path/fine_generator"}
    with pytest.raises(InputError, match="is a directory or an input file"):
        run("name=contextual_attention", f"path={parts}", f"output={parts / 'latest_net_fine_generator.pth'}")


def test_imported_network_matches_the_release(released_file, imported):
    image, mask = torch.rand(1, 3, 64, 72), torch.ones(1, 1, 64, 72)
    mask[..., 20:40, 20:40] = 0
    ours, theirs = load_checkpoint(imported).network, load("contextual_attention", released_file)
    assert_close(ours(image, mask).prediction, theirs(image, mask).prediction, rtol=0, atol=0)


def test_the_config_names_the_release_and_its_files(released_file, imported):
    checkpoint = load_checkpoint(imported)
    assert checkpoint.config["model"]["name"] == "contextual_attention_release"
    assert checkpoint.config["release"] == "contextual_attention"
    assert checkpoint.config["files"]["path"]["path"] == str(released_file)
    assert len(checkpoint.config["files"]["path"]["sha256"]) == 64


def test_imported_checkpoint_can_be_evaluated(imported, composed, tmp_path):
    settings = ["bank_masks_per_bin=1", f"output_dir={tmp_path / 'evaluated'}", "scale=smoke"]
    records, provenance = read_records(evaluate(composed(*settings, f"ckpt={imported}", config="evaluate")))
    assert set(records["method"]) == {"contextual_attention_release"}
    assert records["composite_psnr"].notna().all()
    assert provenance.checkpoint.path == str(imported)


def test_training_starts_from_it_and_cannot_resume_it(imported, composed, tmp_path):
    as_released = [
        "model=contextual_attention_release",
        "scale.width=1",
        "scale.attention_downscale=2",
        "scale.dilations=[2,4,8,16]",
    ]
    settings = [*as_released, "scale.max_steps=1", "scale.learning_rate=0"]
    train(composed(*settings, f"start_from={imported}"))
    trained = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").network.state_dict()
    for name, tensor in load_checkpoint(imported).network.state_dict().items():
        assert_close(trained[name], tensor, rtol=0, atol=0)
    with pytest.raises(InputError, match=r"holds weights without optimiser states: use start_from="):
        train(composed(*settings, f"resume={imported}", f"output_dir={tmp_path / 'resumed'}"))


def test_errors_name_the_available_releases(released_file, tmp_path):
    output = f"output={tmp_path / 'o.ckpt'}"
    with pytest.raises(InputError, match="choose one of lbam, edge_lbam"):
        run("name=mpga_gla_discriminator", f"path={released_file}", output)
    with pytest.raises(InputError, match=r"missing values, set output=, path="):
        run("name=lbam")
    with pytest.raises(InputError, match="completion="):
        run("name=edge_lbam", f"path={released_file}", output)
    with pytest.raises(
        InputError, match=r"gen_00430000.pt does not fit mpga_gla: .*The file matches contextual_attention"
    ):
        run("name=mpga_gla", f"path={released_file}", output)
    assert not (tmp_path / "o.ckpt").exists()


def test_does_not_overwrite_input_files_and_directories(released_file, tmp_path):
    before = released_file.read_bytes()
    (tmp_path / "file").write_bytes(b"")
    for output, message in {
        released_file: "or an input file",
        released_file.parent: "is a directory",
        tmp_path / "file" / "o.ckpt": "can't be written",
    }.items():
        with pytest.raises(InputError, match=message):
            run("name=contextual_attention", f"path={released_file}", f"output={output}")
    assert released_file.read_bytes() == before


def test_command_writes_the_checkpoint(released_file, tmp_path, commands):
    overrides = ("name=contextual_attention", f"path={released_file}", "output=o.ckpt")
    ended = commands("import_checkpoint", *overrides, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "model=contextual_attention_release" in ended.out
    assert read_checkpoint(tmp_path / "o.ckpt")["config"]["release"] == "contextual_attention"
    assert [path.name for path in tmp_path.iterdir()] == ["o.ckpt"]
