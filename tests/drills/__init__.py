"""Drills that take longer than a test: run by hand, and in small by the suite."""
