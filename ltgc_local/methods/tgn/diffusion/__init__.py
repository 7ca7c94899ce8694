"""TGN-style, diffusion: SDXL's adapter in the place of the GAN."""
