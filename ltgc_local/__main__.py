"""``python -m ltgc_local``."""

from ltgc_local.cli import main

main(prog_name="ltgc-local")
