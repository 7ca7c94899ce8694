"""What every stage of TGN may ask for besides the recipe, the data and its model."""

from __future__ import annotations

from functools import cached_property

from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.methods.stage import Stage
from ltgc_local.methods.tgn.classes import ClassManifest, read_manifest
from ltgc_local.methods.tgn.network import TailNetwork, load_tail_network


class TgnStage(Stage):
    """Reads the manifest of the classes and the tail network, of steps that have them among their inputs."""

    @property
    def device(self) -> str:
        """The device of the networks that a step trains or loads by itself."""
        return resolve_device(self.recipe.models.device)

    @cached_property
    def manifest(self) -> ClassManifest:
        """Head and tail, and the one numbering of the classes."""
        return read_manifest(self.run, self.input("classes"))

    @cached_property
    def tail_network(self) -> TailNetwork:
        """The tail network, frozen, on the step's device."""
        return load_tail_network(self.run, self.input("tail network"), self.device)
