"""The demo: every method in one report."""

import re
from pathlib import Path

from hydra import compose, initialize_config_dir

from src.checkpoints.reading import SHIPPED
from src.evaluation.demo import run_demo
from src.evaluation.records import read_records

CONF = Path(__file__).parents[1] / "conf"


def test_report_compares_all_methods_on_one_bank(tmp_path, capsys):
    small = [
        "demo.steps=3",
        "demo.crops=1",
        "demo.bank_masks_per_bin=2",
        "demo.workers=0",
        "demo.train=edge_lbam",
        "demo.scale=smoke",
    ]
    fast = ["~demo.methods.biharmonic", "~demo.methods.telea"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        report = run_demo(compose("demo", [*small, *fast, f"output_dir={tmp_path}"]))
    page = report.read_text()
    shipped = {path.parent.name for path in SHIPPED.glob("*/config.yaml")}
    methods = shipped | {"mean_colour", "edge_lbam untrained", "edge_lbam after 3 steps"}
    assert shipped
    assert all(f">{method}<" in page for method in methods)
    assert "chelsea.png" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # everything is embedded
    records = [read_records(path) for path in tmp_path.glob("*/records.parquet")]
    assert {frame["method"].iloc[0] for frame, _ in records} == methods
    assert all(f">edge_lbam after 3 steps: {figure}<" in page for figure in ("edges", "attention maps"))
    assert len({made.mask_bank_hash for _, made in records}) == 1
    assert len({tuple(frame["hole_ratio"]) for frame, _ in records}) == 1
    assert re.search(r"python -m src\.predict model=\w+ weights=small ", capsys.readouterr().out)
