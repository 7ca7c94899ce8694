"""The run directory and the files in it: written whole, read by key."""
