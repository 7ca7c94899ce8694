"""How the shipped miniature models are made and measured. Nothing here is imported by ``ltgc_local``."""
