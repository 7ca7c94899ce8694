"""Several runs in one set of tables: intervals, means over seeds, the change against the control. No torch."""

from ltgc_local.comparison.compare import Comparison, compare_runs
from ltgc_local.comparison.formats import FORMATS, write_comparison

__all__ = ["FORMATS", "Comparison", "compare_runs", "write_comparison"]
