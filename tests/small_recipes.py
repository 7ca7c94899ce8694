"""What makes the quickstart small for tests of what follows the drawing: no language model and few steps."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FROM_TEMPLATE = f"""\
base: {ROOT}/recipes/quickstart.yaml
describe: {{tail_below: 20}}
extend: {{source: template, max_descriptions: 24}}
draw: {{steps: 4}}
assess: {{enabled: false}}
leaks: {{enabled: false}}
"""
