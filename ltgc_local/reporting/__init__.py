"""The report: plain facts gathered from a run directory, and the page and JSON summary made from them. No torch."""

from ltgc_local.reporting.gather import Report, gather
from ltgc_local.reporting.render import render, summarize

__all__ = ["Report", "gather", "render", "summarize"]
