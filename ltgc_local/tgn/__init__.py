"""TGN (Tang et al. 2024): class manifest, the two networks that teach each other, the generator."""
