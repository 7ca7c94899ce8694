"""The steps' work: each module joins pure logic and one backend, and offers ``plan_chunks`` and ``run_chunk``."""
