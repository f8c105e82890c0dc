"""Every table and figure of the papers: each file is read strictly, and each row is composed, trained and tested."""

import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.benchmarking.setting import Setting
from src.benchmarking.training import Step, fit, make_batch, make_module, set_scale, stage_names
from src.checkpoints.reading import load_checkpoint
from src.common.resolvers import FOLDER, loss_of
from src.evaluation.records import read_records
from src.masks.hole_ratios import BINS, bin_name
from src.metrics.scores import METRICS, SCORES
from src.reproduction.execution import run_all
from src.reproduction.papers import PaperFigure, PaperTable, read_paper_file
from src.reproduction.planning import plan_runs
from tests.networks.test_classical import needs_patchmatch

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
FILES = {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in sorted(FOLDER.glob("*/*.yaml"))}
READ = {name: read_paper_file(path) for name, path in FILES.items()}
TABLES = {name: made for name, made in READ.items() if isinstance(made, PaperTable)}
FIGURES = {name: made for name, made in READ.items() if isinstance(made, PaperFigure)}
ROWS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.glob("*/*/*.yaml"))

PRINTED = {  # a table of several datasets has one file per dataset: table1_places
    "lbam": {"table1", "table2", "timing", "user_study"},
    "edge_lbam": {"table1", "table2", "table3", "table4", "table5", "fig12"},
    "contextual_attention": {"table1", "timing", "ablations"},
    "mpga_gla": {"table1", "table2", "table3", "table4", "table5", "ablations"},
}


@pytest.mark.parametrize("paper", PRINTED)
def test_every_table_of_the_papers_has_a_file(paper):
    here = {table.removeprefix(f"{paper}/") for table in TABLES if table.startswith(f"{paper}/")}
    assert {table if table in PRINTED[paper] else table.partition("_")[0] for table in here} == PRINTED[paper]
    assert any(figure.startswith(f"{paper}/") for figure in FIGURES)


FIGURE_NUMBERS = {  # the last of the paper's, and of its appendix
    "lbam": [*range(1, 17)],
    "edge_lbam": [*range(1, 14)],
    "contextual_attention": [*range(1, 16)],
    "mpga_gla": [*range(1, 11), "A1", "A2", "A3"],
}


@pytest.mark.parametrize("paper", FIGURE_NUMBERS)
def test_every_figure_of_the_papers_has_a_file_or_is_listed_as_a_diagram(paper):
    files = {name.partition("/")[2] for name in READ if name.startswith(f"{paper}/fig")}
    here = {re.fullmatch(r"fig(A?\d+)(_\w+)?", file).group(1) for file in files}
    (listed,) = re.findall(rf"^\| {paper} \| ([\d, ]+) \|", (FOLDER / "README.md").read_text(), flags=re.M)
    diagrams = set(listed.split(", "))
    assert not here & diagrams
    assert here | diagrams == {str(number) for number in FIGURE_NUMBERS[paper]}


@pytest.mark.parametrize("name", READ)
def test_rows_and_their_files_correspond(name):
    made = READ[name]
    paper = name.partition("/")[0]
    if isinstance(made, PaperFigure):
        assert {f"{paper}/{row.row}" for row in made.rows if row.row} <= set(ROWS)
        return
    named = [row.row for row in made.rows if row.row]
    assert sorted(named) == [row.rpartition("/")[2] for row in ROWS if row.startswith(f"{name}/")]
    assert any(row.reference for row in made.rows) or made.kind != "unprinted"


@pytest.mark.parametrize("name", READ)
def test_data_and_masks_have_configs(name):
    for key, group in (("data", "data"), ("mask", "mask"), ("test_mask", "mask")):
        chosen = getattr(READ[name], key, None)
        assert chosen is None or (CONF / group / f"{chosen}.yaml").is_file()


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.test_size is not None])
def test_test_sizes_are_printed(name):
    height, width = TABLES[name].test_size
    assert f"{height}x{width}" in TABLES[name].protocol["resolution"]


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.kind == "benchmark"])
def test_images_are_timed_at_the_printed_size(name):
    side = TABLES[name].side_px
    assert f"{side}x{side}" in TABLES[name].protocol["resolution"]


BOUNDS = {"PSNR": (5, 60), "SSIM": (0, 100), "LPIPS": (0, 1), "precision": (0, 1), "recall": (0, 1)}


@pytest.mark.parametrize("name", TABLES)
def test_printed_numbers_are_within_bounds_and_have_the_printed_decimals(name):
    for row in TABLES[name].rows:
        for metric in TABLES[name].metrics:
            for bin_, value in row.values.get(metric.name, {}).items():
                if value is None:
                    continue
                low, high = BOUNDS.get(metric.name, (0, 1e5))
                assert low <= value <= high, (row.method, metric.name, bin_)
                if metric.decimals is not None:
                    assert math.isclose(value, round(value, metric.decimals), abs_tol=1e-9)


@pytest.mark.parametrize("name", TABLES)
def test_metrics_name_our_scores_and_bins_are_all_ours_or_all_the_papers(name):
    ours = set(METRICS)
    extra = {"edge_precision", "edge_recall", "edge_f1", "fid", "votes", "ms", "parameters_m"}
    assert {metric.ours for metric in TABLES[name].metrics} <= ours | extra | {None}
    bins = set(TABLES[name].bins)
    assert bins <= {bin_name(b) for b in BINS} or len(bins & {bin_name(b) for b in BINS}) == 0


@cache
def composed(row, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [f"experiments={row}", *overrides])


FIRST_ROWS = [
    row for row, before in zip(ROWS, ["", *ROWS], strict=False) if row.split("/")[:2] != before.split("/")[:2]
]


@pytest.mark.parametrize(("row", "scale"), [*((row, "smoke") for row in ROWS), *((row, "paper") for row in FIRST_ROWS)])
def test_a_row_composes_with_its_papers_data_and_masks(row, scale):
    """All rows of a table have the scale's options in common, so one of them is composed at paper scale."""
    cfg = composed(row, f"scale={scale}", "output_dir=x")
    table = READ[row.rpartition("/")[0]]
    assert table.data in (None, cfg.data.name)
    assert table.mask in (None, cfg.mask.name)
    OmegaConf.to_container(cfg.model, resolve=True)
    if "training" in cfg.model:  # patchmatch has no weights
        OmegaConf.to_container(cfg.loss, resolve=True)


def differing(one, other, prefix=""):
    """Return the keys in which two plain configs differ."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return set() if one == other else {prefix}
    keys = one.keys() | other.keys()
    return {
        found
        for key in keys
        for found in differing(one.get(key), other.get(key), f"{prefix}.{key}" if prefix else str(key))
    }


ABLATIONS = [
    (name, row.row, reference.row)
    for name, table in TABLES.items()
    for reference in table.rows
    if reference.reference
    for row in table.rows
    if row.row and row.row != reference.row
]


def set_by(row):
    """Return the config nodes that a row's own file sets: its keys, and the packages of its groups."""
    content = yaml.safe_load((FOLDER / f"{row}.yaml").read_text(encoding="utf-8"))
    chosen = [key for entry in content.pop("defaults") if isinstance(entry, dict) for key in entry]
    groups = [key.removeprefix("override /") for key in chosen]
    packages = {"model/attention": "model.network.refinement.attention"}
    return [packages.get(group, group.rpartition("@")[2]) for group in groups] + leaves(content)


def leaves(content, prefix=""):
    """Return dotted keys; a node with `_target_` is one leaf with all its arguments."""
    if not isinstance(content, dict) or "_target_" in content:
        return [prefix]
    return [leaf for key, child in content.items() for leaf in leaves(child, f"{prefix}.{key}".lstrip("."))]


@pytest.mark.parametrize(("table", "row", "reference"), ABLATIONS)
def test_an_ablation_differs_from_the_reference_in_the_keys_of_its_file_only(table, row, reference):
    one, other = (
        OmegaConf.to_container(composed(f"{table}/{name}", "scale=smoke", "output_dir=x"), resolve=True)
        for name in (row, reference)
    )
    keys, named = differing(one, other), set_by(f"{table}/{row}")
    assert {key.partition(".")[0] for key in named} <= {"model", "loss"}
    assert [key for key in keys if not any(f"{key}.".startswith(f"{node}.") for node in named)] == []
    for node in named:
        restated = any(node.startswith(f"{group}.") for group in named)  # below a group that was replaced
        assert restated or any(f"{key}.".startswith(f"{node}.") for key in keys), (
            f"{node} has the same value in the reference"
        )


TRAINED = set()
"""Configs of rows that have been trained: tables share models, and differ in data that are not available."""


def batch_with_masks_of(run, side_px):
    """Return a batch with masks of a run's generator, unless it needs mask files: some critics need rectangles."""
    batch = make_batch(2, side_px)
    if "root" not in run.mask:
        draw, hole_ratio = instantiate(run.mask.generator), tuple(run.mask.hole_ratio)
        masks = [draw((side_px, side_px), np.random.default_rng(k), hole_ratio) for k in range(2)]
        batch["mask"] = torch.from_numpy(np.stack(masks))[:, None].float()
        batch["known_edges"] = batch["edges"] * batch["mask"]
    return batch


@pytest.mark.parametrize("row", ROWS)
def test_a_row_takes_a_training_step(row):
    run = composed(row, "scale=smoke", "output_dir=x").copy()
    if "training" not in run.model:
        return
    parts = repr([OmegaConf.to_container(run[part], resolve=True) for part in ("model", "loss")])
    if parts in TRAINED:
        return
    TRAINED.add(parts)
    side_px = set_scale(run, run.scale.copy(), run.scale.image_size).scale.image_size
    for stage in stage_names(run):
        module = make_module(Step(run, stage, side_px, 2), instantiate(run.model.network), Setting())
        before = [parameter.clone() for parameter in module.network.parameters()]
        fit(module, run, batch_with_masks_of(run, side_px), torch.device("cpu"), Setting(), steps=0)
        after = list(module.network.parameters())
        assert all(parameter.isfinite().all() for parameter in after)
        assert any(not torch.equal(*both) for both in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "row",
    ["edge_lbam/table1_places/edge_lbam", "contextual_attention/table1/full", "mpga_gla/table1/pconv"],
)
def test_a_row_is_trained_and_tested(row, asked):
    """The rows of LBAM and of MPGA-GLA are tested in test_reproduce.py."""
    cfg = asked(f"table={row.rpartition('/')[0]}", "logger=[]")
    (run,) = plan_runs(cfg, [row])
    if "stages" not in run.config.model.training:  # each stage needs a step
        run = replace(run, overrides=(*run.overrides, "scale.max_steps=1"))
    assert run_all(cfg, [run]) == {}
    checkpoint = load_checkpoint(run.directory / "checkpoints" / "last.ckpt")
    assert type(checkpoint.network) is type(instantiate(run.config.model.network))
    records, made = read_records(run.records)
    assert made.config["model"]["name"] == run.config.model.name
    printed = {metric.ours for metric in READ[row.rpartition("/")[0]].metrics}
    scored = [f"composite_{score.name}" for score in SCORES if score.name in printed]
    assert scored
    assert np.isfinite(records[scored]).all(axis=None)


@needs_patchmatch
def test_a_row_without_weights_is_only_tested(asked):
    cfg = asked("table=lbam/table1", "logger=[]", "rows=patchmatch")
    (run,) = plan_runs(cfg, ["lbam/table1/patchmatch"])
    assert run_all(cfg, [run]) == {}
    assert not (run.directory / "checkpoints").exists()
    records, made = read_records(run.records)
    assert made.config["model"]["name"] == "patchmatch"
    assert np.isfinite(records["composite_psnr"]).all()


def test_a_glob_over_a_table_finds_exactly_its_rows():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        (swept,) = OverridesParser.create(loader).parse_overrides(["experiments=glob(lbam/table2/*)"])
        found = sorted(str(choice) for choice in swept.sweep_string_iterator())
    assert found == [row for row in ROWS if row.startswith("lbam/table2/")]
    assert len(found) == 8


def test_the_loss_of_a_model_is_the_one_in_its_config_or_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "borrowing.yaml").write_text("loss: pconv # it shares its terms\n")
    (tmp_path / "own.yaml").write_text("name: own\n")
    monkeypatch.setattr("src.common.resolvers.MODELS", tmp_path)
    assert [loss_of(name) for name in ("borrowing", "own", "missing")] == ["pconv", "own", "missing"]
