"""The description of a metric that tables, dashboards and reports share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """Name, formula and presentation of a metric.

    Args:
        name: the name in columns of records and in config keys, e.g. ``l1_hole_percent``.
        label: the name for readers, e.g. ``l1 hole``.
        unit: printed after the number, e.g. ``dB``; empty for a number without a unit.
        decimals: number of decimals printed.
        higher_is_better: whether larger values are better.
        formula: in plain text, with region and normalisation: papers print several quantities as "l1 (%)".
        source: the paper or package that defines it.
    """

    name: str
    label: str
    unit: str
    decimals: int
    higher_is_better: bool
    formula: str
    source: str = ""

    @property
    def heading(self) -> str:
        """Label, unit and an arrow that points to the better side: ``PSNR (dB) ↑``."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit} {'↑' if self.higher_is_better else '↓'}"
