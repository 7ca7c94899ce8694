"""LTGC offline: make rare classes recognisable by generating training data for them, and prove that it did."""

__version__ = "0.1.0"
