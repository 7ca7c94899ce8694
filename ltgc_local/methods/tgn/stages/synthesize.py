"""Synthesize: CDTG's generator makes each tail class's images, each from the features of one real image of the class.

Differs from the released code: an image's noise is its own seed's, whatever the batch; shards can be made by several
processes and made again; the real image behind each is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from ltgc_local.backends.images import to_stored
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.methods.tgn.budget import Wanted, list_wanted
from ltgc_local.methods.tgn.cdtg.sample_grid import to_pixels
from ltgc_local.methods.tgn.cdtg.tail_generator import TailGenerator, load_tail_generator
from ltgc_local.methods.tgn.classes import ClassEntry
from ltgc_local.methods.tgn.network import SquareResize
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import GanRecipe
from ltgc_local.runs.files import Artefact, GeneratedImage, Images, encode_png

log = logging.getLogger(__name__)


class SynthesizeStage(ChunkedStage[GanRecipe, Wanted], TgnStage):
    """Generates the images that the budget wants."""

    def chunks(self) -> list[Sequence[Wanted]]:
        settings = self.recipe.cdtg
        low = settings.r_train if settings.r_train_low is None else settings.r_train_low
        if settings.features and not low <= settings.r <= settings.r_train:
            log.warning(
                "synthesize: r is %g, but the generator was trained with %g to %g; it knows no other mixture well",
                settings.r, low, settings.r_train,
            )  # fmt: skip
        return split(list_wanted(self.corpus, self.manifest, self.recipe), settings.shard_size)

    def make_chunk(self, chunk: Sequence[Wanted]) -> list[Artefact]:
        rows: list[GeneratedImage] = []
        # With the batch's statistics, which the released code has, an image would depend on its neighbours: one by one.
        settings = self.recipe.cdtg
        size = settings.generate_batch_size if settings.behaviour == "intended" else 1
        for batch in split(chunk, size):
            rows += self._generate_batch(batch)
            self.progress.advance(len(batch))
        return [Images("images", rows)]

    def _generate_batch(self, batch: Sequence[Wanted]) -> list[GeneratedImage]:
        settings, train = self.recipe.cdtg, self.corpus.train
        entries: dict[int, ClassEntry] = {entry.class_id: entry for entry in self.manifest.tail}
        seeds = [self.seed("generate", wanted.class_id, wanted.number) for wanted in batch]
        pixels = to_pixels(self._images(batch, seeds, [entries[wanted.class_id].index for wanted in batch]))
        return [
            GeneratedImage(
                image=encode_png(to_stored(Image.fromarray(array), settings.stored_size_px, settings.stored_mode)),
                class_id=wanted.class_id,
                class_name=entries[wanted.class_id].class_name,
                description_id=wanted.number,
                description=entries[wanted.class_id].prompt,
                round=0,
                seed=seed,
                init_image=train.keys[wanted.source_row],
            )
            for wanted, seed, array in zip(batch, seeds, pixels, strict=True)
        ]

    @torch.inference_mode()
    def _images(self, batch: Sequence[Wanted], seeds: Sequence[int], labels: Sequence[int]) -> torch.Tensor:
        """Generate images (B, 3, H, W), black -1 and white 1."""
        settings, device = self.recipe.cdtg, self.device
        generator = self._generator
        features = None
        if generator.fusion is not None:
            resize = SquareResize(settings.size_px)
            sources = self.corpus.train.images([wanted.source_row for wanted in batch])
            pixels = torch.from_numpy(np.stack([np.asarray(resize(image)) for image in sources]))
            real = pixels.permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
            features = self.tail_network.features(real).float()
        random = generator.draw_seeded(seeds, settings.style_mixing).to(device)
        images: torch.Tensor = generator(random, torch.tensor(labels, device=device), features, settings.r)
        return images

    @cached_property
    def _generator(self) -> TailGenerator:
        if self.recipe.cdtg.behaviour == "released":
            self.tail_network.use_batch_statistics()
        torch.manual_seed(self.seed("fusion"))  # of the fusion map, which the released behaviour draws afresh
        return load_tail_generator(self.run.files(self.input("generator"), "generator")[0], self.device)
