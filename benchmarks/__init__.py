"""Speed, as ratios: each module is one command that runs ours and what a user would pick instead, in one process.

python -m benchmarks.t2i | clip | lora | llm | vlm | pipeline   [--device cpu|cuda]
"""
