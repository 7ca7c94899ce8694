"""Stable Diffusion XL: an engine on diffusers' components."""
