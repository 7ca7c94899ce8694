"""Puts what is shipped into a wheel, as ltgc_local/shipped/: recipes, model cards, miniatures, the quickstart's data.

A clone keeps them at the top level, where people look for them; pyproject.toml has everything else.
"""

import os
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("recipes/**/*.yaml", "model_cards/*.md", "data/README.md", "data/fashion_mnist_lt/*", "data/miniatures/**/*")


class BuildWithShipped(build_py):
    """Builds the package with what is shipped in it; an editable installation finds that in the clone."""

    def run(self) -> None:
        super().run()
        for target, source in [] if self.editable_mode else self._shipped():
            self.mkpath(os.path.dirname(target))
            self.copy_file(source, target)

    def get_output_mapping(self) -> dict[str, str]:
        return super().get_output_mapping() | dict(self._shipped())

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *(source for _, source in self._shipped())]

    def _shipped(self) -> list[tuple[str, str]]:
        """Return (where it goes, where it is) of each file."""
        files = [file for pattern in SHIPPED for file in sorted(Path().glob(pattern)) if file.is_file()]
        folder = Path(self.build_lib, "ltgc_local", "shipped")
        return [(str(folder / file), str(file)) for file in files if not file.name.startswith(".")]


setup(cmdclass={"build_py": BuildWithShipped})
