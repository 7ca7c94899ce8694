"""The run directory: its files and their digests, images, lock, reuse, logs, metrics and provenance."""
