"""LTGC's stages, a module each."""
