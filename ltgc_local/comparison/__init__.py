"""Runs side by side: intervals, folded seeds, the change against the control, the paper's figures. No torch."""

from ltgc_local.comparison.formats import FORMATS, write_comparison
from ltgc_local.comparison.tables import Comparison, compare_runs

__all__ = ["FORMATS", "Comparison", "compare_runs", "write_comparison"]
