"""TGN's stages, a module each."""
