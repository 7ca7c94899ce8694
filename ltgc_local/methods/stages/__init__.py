"""Stages that every method shares: the leak guard and the report."""
