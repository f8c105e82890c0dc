from collections.abc import Callable

import pandas as pd
import pytest

from src.reporting.provenance import Checkpoint, Provenance, Revision
from src.reporting.tables import Metric

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
