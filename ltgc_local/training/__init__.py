"""Training: the loop, its data, optimisation, checkpoints, and LoRA on CLIP's vision tower."""
