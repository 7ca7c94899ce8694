"""The run directory: its files and their digests, images, the lock, what is reused, provenance."""
