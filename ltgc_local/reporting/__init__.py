"""The report: plain facts gathered from a run directory, and one HTML page drawn from them. No model, no torch."""

from ltgc_local.reporting.gather import Report, gather
from ltgc_local.reporting.render import render
from ltgc_local.reporting.summary import summarize

__all__ = ["Report", "gather", "render", "summarize"]
