"""The only home of vllm, transformers, diffusers and open_clip: models behind four small protocols, loaded by name."""
