"""Where a step's processes run."""
