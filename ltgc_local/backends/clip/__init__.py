"""CLIP, by open_clip and by transformers."""
