from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike

from src.common.provenance import Checkpoint, Provenance, Revision
from src.evaluation.records import write_records
from src.evaluation.tables import Metric
from src.masks.hole_ratios import bin_holding

PSNR = Metric("composite_psnr", "PSNR", "dB", 2, higher_is_better=True, formula="10 log10(1 / mean d^2)")
L1 = Metric("composite_l1_percent", "l1", "%", 2, higher_is_better=False, formula="100 mean |d|")


@pytest.fixture
def psnr() -> Metric:
    return PSNR


@pytest.fixture
def l1() -> Metric:
    return L1


@pytest.fixture
def make_records() -> Callable[..., pd.DataFrame]:
    def make(method: str, psnr: list[float], l1: list[float] | None = None) -> pd.DataFrame:
        """Pictures 0, 1, ... alternate between two bins, the wider hole first; from the fifth on they are in none."""
        bins = ["(0.4,0.5]", "(0.1,0.2]"] * 2 + [None] * len(psnr)
        shares = [0.45, 0.15] * 2 + [0.7] * len(psnr)
        count = len(psnr)
        frame = pd.DataFrame(
            {
                "method": method,
                "data": "photos",
                "path": [f"/photos/{i}.png" for i in range(count)],
                "index": range(count),
                "bin": pd.Series(bins[:count], dtype="str"),
                "hole_share": shares[:count],
                "composite_psnr": psnr,
            }
        )
        return frame if l1 is None else frame.assign(composite_l1_percent=l1)

    return make


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(
        revision=Revision("0123abc", dirty=False),
        config={"model": {"_target_": "src.networks.lbam.LBAM", "width": 0.25}, "note": "é </pre><script>"},
        seed=0,
        data={"name": "photos", "pictures": 5},
        mask_bank_hash="3f" * 32,
        checkpoint=Checkpoint("runs/best.ckpt", "ab" * 32),
        device="a CPU, 2 threads",
        versions={"torch": "2.13.0"},
        started="2025-01-01T00:00:00+00:00",
        duration_s=1.5,
        absent_scores={"lpips": "AlexNet weights not found"},
    )


@pytest.fixture
def write_run(tmp_path, provenance) -> Callable[..., Path]:
    def write(row: str, seed: int, psnr: ArrayLike, *, change=None, origin=provenance, **scores: ArrayLike) -> Path:
        """Records of pictures x two masks, in the bins (0.1,0.2] and (0.4,0.5]; what is above 0.6 is in no bin.

        Shapes:
            psnr and every other score (pictures, 2 or 3); the third mask has a hole share of 0.7.
        """
        psnr = np.asarray(psnr, dtype=np.float64)
        count, masks = psnr.shape
        shares = np.tile([0.15, 0.45, 0.7][:masks], count)
        frame = pd.DataFrame(
            {
                "method": "lbam",
                "data": "photos",
                "path": [f"/photos/{picture}.png" for picture in range(count) for _ in range(masks)],
                "index": np.arange(count * masks),
                "bin": [bin_holding(share) for share in shares],
                "hole_share": shares,
                "composite_psnr": psnr.ravel(),
                **{f"composite_{name}": np.asarray(values, float).ravel() for name, values in scores.items()},
            }
        )
        path = tmp_path / row / f"seed_{seed}" / "records.parquet"
        write_records(frame if change is None else change(frame), path, origin)
        return path

    return write
