"""TGN (Tang et al., TGRS 2024)."""
