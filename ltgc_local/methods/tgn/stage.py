"""What TGN's stages share: the device, the class manifest, the tail network, and decoded images."""

from __future__ import annotations

from functools import cached_property

import torch

from ltgc_local.backends.torch_device import resolve_device, with_channels_last
from ltgc_local.methods.stage import Stage
from ltgc_local.methods.tgn.classes import ClassManifest, read_manifest
from ltgc_local.methods.tgn.network import TailNetwork, image_cache, load_network
from ltgc_local.recipe.tgn import Backbone, Cdtg
from ltgc_local.training.distributed import is_main_process
from ltgc_local.training.images import Source


class TgnStage(Stage):
    """Reads the class manifest and the tail network, for steps that have them among their inputs."""

    @property
    def device(self) -> str:
        """The device of the networks that a step trains or loads by itself."""
        return resolve_device(self.recipe.models.device)

    @cached_property
    def manifest(self) -> ClassManifest:
        return read_manifest(self.run, self.input("classes"))

    @cached_property
    def tail_network(self) -> TailNetwork:
        """The tail network, frozen: distilled, or trained alone where the recipe does not distill."""
        step = self.input("tail network")
        path = self.run.file_of(step, "tail" if self.run.files(step, "tail") else "network")
        return with_channels_last(TailNetwork(load_network(path)), self.device)

    def decode(self, settings: Backbone | Cdtg, source: Source) -> torch.Tensor:
        """Decode images at a network's size, (N, 3, H, W) uint8."""
        writes = is_main_process(self.recipe.models.device)
        return image_cache(settings, self.run.decoded, self.recipe.data, writes=writes).load(source)
