"""The papers, a folder each; the core asks for none of them by name."""
