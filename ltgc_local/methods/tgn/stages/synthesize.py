"""Synthesize: CDTG's generator makes each tail class's images, each from the features of one real image of the class.

Differs from the released code: an image's noise depends on its own seed, not on the batch; shards can be made by
several processes and made again; the real image behind each generated one is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

import torch
from PIL import Image

from ltgc_local.backends.images import to_stored
from ltgc_local.methods.ltgc.stages.draw import generated_image
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.methods.tgn.budget import Wanted, list_wanted
from ltgc_local.methods.tgn.cdtg.pixels import to_pixels
from ltgc_local.methods.tgn.cdtg.tail_generator import TailGenerator, load_tail_generator
from ltgc_local.methods.tgn.network import read_square
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import GanRecipe
from ltgc_local.runs.files import Artefact, GeneratedImage, Images

log = logging.getLogger(__name__)


class SynthesizeStage(ChunkedStage[GanRecipe, Wanted], TgnStage):
    """Generates the images that the budget wants."""

    def chunks(self) -> list[Sequence[Wanted]]:
        settings = self.recipe.cdtg
        low = settings.r_train if settings.r_train_low is None else settings.r_train_low
        if settings.features and not low <= settings.r <= settings.r_train:
            log.warning(
                "synthesize: r is %g, but the generator was trained with r from %g to %g; other mixtures are outside "
                "what it has learnt",
                settings.r, low, settings.r_train,
            )  # fmt: skip
        return split(list_wanted(self.corpus, self.manifest, self.recipe), settings.shard_size)

    def make_chunk(self, chunk: Sequence[Wanted]) -> list[Artefact]:
        rows: list[GeneratedImage] = []
        settings = self.recipe.cdtg
        # The released code normalises by batch statistics: one by one, or an image would depend on its neighbours.
        for batch in split(chunk, settings.generate_batch_size if settings.behaviour == "intended" else 1):
            seeds = [self.seed("generate", wanted.class_id, wanted.number) for wanted in batch]
            for wanted, seed, array in zip(batch, seeds, to_pixels(self.generate(batch, seeds)), strict=True):
                stored = to_stored(Image.fromarray(array), settings.stored_size_px, settings.stored_mode)
                key, prompt = (wanted.class_id, wanted.number, 0), self.manifest.by_id[wanted.class_id].prompt
                rows.append(generated_image(self.corpus, key, prompt, seed, wanted.source_row, stored))
            self.progress.advance(len(batch))
        return [Images("images", rows)]

    @torch.inference_mode()
    def generate(self, batch: Sequence[Wanted], seeds: Sequence[int]) -> torch.Tensor:
        """Generate images (B, 3, H, W) in [-1, 1]."""
        settings, generator, features = self.recipe.cdtg, self._generator, None
        if generator.fusion is not None:
            sources = self.corpus.train.images([wanted.source_row for wanted in batch])
            features = self.tail_network.features(read_square(sources, settings.size_px, self.device)).float()
        random = generator.draw_seeded(seeds, settings.style_mixing).to(self.device)
        labels = torch.tensor([self.manifest.by_id[wanted.class_id].index for wanted in batch], device=self.device)
        images: torch.Tensor = generator(random, labels, features, settings.r)
        return images

    @cached_property
    def _generator(self) -> TailGenerator:
        if self.recipe.cdtg.behaviour == "released":
            self.tail_network.use_batch_statistics()
        torch.manual_seed(self.seed("fusion"))  # for the fusion map, which the released behaviour initialises afresh
        return load_tail_generator(self.run.file_of(self.input("generator"), "generator"), self.device)
