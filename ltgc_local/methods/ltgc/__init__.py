"""LTGC (Zhao et al., CVPR 2024)."""
