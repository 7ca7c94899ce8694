"""Fine-tuning CLIP's vision tower: LoRA, cosine head, BalanceMix, losses and the loop."""
