"""Execute one step: what its output depends on, and the process that makes it."""
