"""The demo: every method in one report."""

import re
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from src.evaluation.demo import run_demo
from src.evaluation.records import read_records

CONF = Path(__file__).parents[1] / "conf"


def test_report_compares_all_methods_on_one_bank(tmp_path):
    small = ["demo.scale=smoke", "demo.longer=0.01", "demo.bank_masks_per_bin=1", "demo.workers=0"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("demo", [*small, "demo.methods=[mean_colour,telea]", f"output_dir={tmp_path}"])
        assert {*cfg.demo.steps} == {"lbam", "pconv", "contextual_attention", "mpga_gla", "edge_lbam"}
        with open_dict(cfg):  # one model without edges and discriminator, one with both, each for three steps
            cfg.demo.steps = OmegaConf.create({"pconv": 300, "edge_lbam": 300})
        report = run_demo(cfg)
    page = report.read_text()
    models = {"pconv", "edge_lbam"}
    methods = models | {f"{model} (untrained)" for model in models} | {"mean_colour", "telea"}
    assert all(f">{method}<" in page for method in methods)
    assert "chelsea.png" in page
    assert "val/psnr" not in page or "data:image/svg+xml" in page  # the curves are embedded, not linked
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    records = [read_records(path) for path in tmp_path.glob("*/records.parquet")]
    assert len(records) == 6
    figures = ("pconv: updated masks", "edge_lbam: edges", "edge_lbam: attention maps")
    assert all(f">{figure}<" in page for figure in figures)
    assert len({made.mask_bank_hash for _, made in records}) == 1
    assert len({tuple(frame["hole_ratio"]) for frame, _ in records}) == 1
