"""`python -m src.train`: multiruns, errors, help, and the published settings."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from src.common.errors import report_input_errors
from src.training.run import train

ROOT = Path(__file__).parents[1]
RESUME = "src.training.resume.checkpoints"


@pytest.fixture
def run_train(commands):
    """`run_train(...)` runs `python -m src.train ...` in the repository's root."""
    return lambda *arguments: commands("train", *arguments, cwd=ROOT)


def smoke(photo_folder):
    return ["scale=smoke", "data=folder", f"data.root={photo_folder}", "workers=0"]


def test_multirun_trains_a_sweep(run_train, photo_folder, tmp_path):
    ended = run_train("-m", "model=lbam,pconv", *smoke(photo_folder), f"hydra.sweep.dir={tmp_path}", "trainer=cpu")
    assert ended.code == 0, ended.err
    for job in ("0_lbam", "1_pconv"):
        assert (tmp_path / job / "checkpoints" / "best.ckpt").is_file()
        assert (tmp_path / job / "csv" / "metrics.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model=dalle"], ["unknown model=dalle: choose one of", "pconv"]),
        (
            ["data=places", "data.root=nowhere"],
            ["error: data=places: data.root=nowhere is not a directory", "places2.csail"],
        ),
        (["resume=gone.ckpt"], ["error: no checkpoint at gone.ckpt"]),
        (["scale.image_size=96"], ["error: loss.terms.adversarial.critic: size must be a power of two"]),
    ],
)
def test_invalid_options_end_without_a_traceback(run_train, arguments, expected, tmp_path):
    ended = run_train(*arguments, "scale=smoke", f"hydra.run.dir={tmp_path}")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    for words in expected:
        assert words in ended.err


def test_resumed_run_logs_changed_options_that_define_it(composed, tmp_path, caplog):
    train(composed("model=pconv", "trainer.max_steps=1"))
    resume = ("model=pconv", f"resume={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}")

    def warned(*overrides: str) -> list[str]:
        caplog.clear()
        with caplog.at_level("WARNING", RESUME):
            train(
                composed(
                    *resume,
                    f"output_dir={tmp_path / str(len(list(tmp_path.iterdir())))}",
                    "trainer.max_steps=2",
                    *overrides,
                )
            )
        return [record.getMessage().partition(" in: ")[2] for record in caplog.records if record.name == RESUME]

    reading = ("data.cache_mib=2", "workers=1")
    assert warned(*reading) == ["trainer.max_steps"]
    assert warned("data.batch_size=1", "data.reduced_decode=true") == [
        "data.batch_size, data.reduced_decode, trainer.max_steps"
    ]


def test_missing_pretrained_weights_are_named_with_their_path(composed, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(SystemExit) as ended:
        report_input_errors(train)(composed("loss.features.weights=pretrained", "loss.features.width=1"))
    for words in ("vgg16-397923af.pth", str(tmp_path / "empty"), "loss.features.weights=none"):
        assert words in str(ended.value)


def test_help_lists_groups_and_examples(run_train):
    ended = run_train("--help")
    assert ended.code == 0
    for words in (
        "model [lbam]: biharmonic, contextual_attention",
        "edge_lbam, edge_lbam_printed, edge_lbam_release",
        "lbam, lbam_printed, lbam_release",
        "scale [paper]: mini, paper, small, smoke",
        "python -m src.train -m model=lbam,pconv",
    ):
        assert words in " ".join(ended.out.split())  # the groups are wrapped


ADAM = "model.training.optimizer"
STAGES = "model.training.stages"

# by model: keys and values as printed in the papers (or chosen, see conf/model)
PUBLISHED = {
    "lbam": {"batch_size": 48, f"{ADAM}.lr": 1e-4, f"{ADAM}.betas": [0.5, 0.999], "trainer.max_epochs": 500},
    "pconv": {
        "batch_size": 6,
        "trainer.max_epochs": 100,
        "trainer.max_steps": -1,
        "trainer.val_check_interval": 1.0,
        f"{ADAM}.lr": 2e-4,
        "model.training.fine_tuning_factor": 0.25,
        "model.training.fine_tuning_share": 0.09,
    },
    "pconv_release": {"batch_size": 16, f"{ADAM}.lr": 2e-4, "model.training.fine_tuning_factor": 0.25},
    "contextual_attention": {
        "batch_size": 16,
        "trainer.max_steps": 150_000,
        "trainer.max_epochs": -1,
        f"{ADAM}.lr": 1e-4,
        f"{ADAM}.betas": [0.5, 0.9],
        "model.training.critic_optimizer.betas": [0.5, 0.9],
        "model.training.critic_steps": 5,
        "loss.terms.l1.gamma": 0.99,
        "loss.terms.adversarial_global.penalty.weight": 10,
        "loss.terms.adversarial_local.penalty.weight": 10,
    },
    "contextual_attention_release": {"batch_size": 16, "model.training.critic_steps": 5, "loss.terms.l1.gamma": 0.9},
    "gl": {"batch_size": 96, "trainer.max_steps": 490_000, f"{ADAM}._target_": "torch.optim.Adadelta"},
    "deepfill_v2": {"batch_size": 16, f"{ADAM}.lr": 1e-4, "model.training.critic_steps": 1},
    "mpga_gla": {
        "batch_size": 4,
        "trainer.max_steps": 1_000_000,
        "trainer.max_epochs": -1,
        "trainer.check_val_every_n_epoch": None,
        "trainer.val_check_interval": 10_000,
        f"{ADAM}.lr": 1e-4,
        f"{ADAM}.betas": [0.5, 0.9],
    },
    "edge_lbam": {
        "batch_size": 8,
        "trainer.max_epochs": 900,
        f"{STAGES}.edges.length": 400,
        f"{STAGES}.edges.optimizer.lr": 1e-4,
        f"{STAGES}.edges.optimizer.betas": [0.1, 0.999],
        f"{STAGES}.edges.critic_optimizer.lr": 1e-4,
        f"{STAGES}.inpainting.length": 400,
        f"{STAGES}.inpainting.optimizer.lr": 2.5e-5,
        f"{STAGES}.inpainting.optimizer.betas": [0.5, 0.999],
        f"{STAGES}.joint.length": 100,
        f"{STAGES}.joint.optimizer.lr": 1e-5,
        f"{STAGES}.joint.critic_optimizer.lr": 1e-5,
        "loss.terms.edges.matching_weight": 10,
        "loss.weights": {"l1": 1, "adversarial": 0.001, "perceptual": 0.05, "style": 120, "edges": 1, "auxiliary": 200},
        "loss.terms.auxiliary.edge_weight": None,  # the term is off
    },
}


@pytest.mark.parametrize(
    ("model", "mask"),
    [
        ("lbam", "lbam"), ("edge_lbam", "edge_lbam"), ("mecnet_release", "edge_lbam"), ("pconv", "folder"),
        ("contextual_attention", "contextual_attention"), ("mpga_gla", "strokes"), ("telea", "irregular"),
    ],
)  # fmt: skip
def test_paper_scale_uses_each_models_masks_and_other_scales_need_no_files(model, mask):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for name in [model, f"{model}_release"] if (ROOT / f"conf/model/{model}_release.yaml").exists() else [model]:
            chosen = [f"model={name}", "output_dir=none"]
            assert compose("train", chosen).mask.name == mask
            assert compose("train", [*chosen, "mask=rectangles"]).mask.name == "rectangles"
            assert compose("train", [*chosen, "scale=mini"]).mask.name == "irregular"


def test_every_model_that_trains_names_its_masks():
    folder = ROOT / "conf"
    for loss in (folder / "loss").glob("*.yaml"):
        if (model := folder / "model" / loss.name).exists():
            named = OmegaConf.load(model).get("mask")
            assert (folder / "mask" / f"{named}.yaml").is_file(), model.name


def test_missing_masks_are_reported_with_their_key(composed):
    with pytest.raises(
        InstantiationException,
        match=r"mask\.root is not set: .* or choose masks that need no files, such as mask=irregular",
    ):
        train(composed("model=lbam", "mask=lbam"))


def test_lbam_masks_are_mixed_6_to_12(composed):
    for name in ("lbam", "edge_lbam"):
        mixture = composed(f"mask={name}").mask.generator
        assert mixture.weights == {"random_shapes": 6, "liu": 12}
        assert mixture.generators.random_shapes._target_ == "src.masks.noise.NoiseGrid"


@pytest.mark.parametrize("model", PUBLISHED)
def test_paper_scale_trains_as_published(model):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [f"model={model}", "output_dir=none"])
    for key, value in PUBLISHED[model].items():
        assert OmegaConf.select(cfg, key) == value, key


@pytest.mark.parametrize(
    "data", ["data=celeba_hq", "data=celeba_hq_3000", "experiments=edge_lbam/table1_celeba_hq/pconv"]
)
def test_pconv_fine_tunes_for_a_quarter_of_the_steps_on_celeba_hq(data):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", ["model=pconv", data, "data.root=.", "mask=irregular", "output_dir=none"])
    assert cfg.model.training.fine_tuning_share == 0.25


@pytest.mark.parametrize(
    ("model", "steps"),
    [("pconv", 40_000), ("edge_lbam", 24_000), ("edge_lbam_release", 24_000), ("mpga_gla_printed", 16_000)],
)
def test_small_scale_trains_each_model_for_its_own_number_of_steps(model, steps):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [f"model={model}", "scale=small", "output_dir=none"])
        own = compose("train", [f"model={model}", "scale=small", "scale.max_steps=7", "output_dir=none"])
    assert (cfg.trainer.max_steps, own.trainer.max_steps) == (steps, 7)
