"""What is on this machine: model cards, the folders of weights that they name, and their checks and digests."""
