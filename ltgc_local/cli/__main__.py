"""``python -m ltgc_local.cli``."""

from ltgc_local.cli import main

main(prog_name="ltgc-local")
