"""The demo: every method in one report."""

import re
from pathlib import Path

from hydra import compose, initialize_config_dir

from src.evaluation.demo import run_demo
from src.evaluation.records import read_records


def test_the_report_compares_all_methods_on_one_bank(tmp_path):
    with initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base="1.3"):
        small = ["demo.scale=smoke", "demo.longer=0.015", "demo.bank_masks_per_bin=2", "demo.workers=0"]
        report = run_demo(compose("demo", [*small, f"output_dir={tmp_path}"]))
    page = report.read_text()
    models = {"lbam", "pconv", "contextual_attention", "mpga_gla", "edge_lbam"}
    methods = models | {f"{model} (untrained)" for model in models} | {"mean_colour", "telea", "navier_stokes"}
    assert all(f">{method}<" in page for method in methods)
    assert "chelsea.png" in page
    assert "val/psnr" not in page or "data:image/svg+xml" in page  # the curves are drawn, not linked
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    records = [read_records(path) for path in tmp_path.glob("*/records.parquet")]
    assert len(records) == 14
    figures = ("lbam: updated masks", "edge_lbam: edges", "contextual_attention: attention", "mpga_gla: stages")
    assert all(f">{figure}<" in page for figure in figures)
    assert len({made.mask_bank_hash for _, made in records}) == 1
    assert len({tuple(frame["hole_ratio"]) for frame, _ in records}) == 1
