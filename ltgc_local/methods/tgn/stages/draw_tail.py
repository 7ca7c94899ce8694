"""Draw tail: the adapted diffusion model generates the tail classes' images, and retries those that were rejected.

An image's noise, and the noise in its features, depend on its own seed: class, number, attempt. The real image behind
it stays the same in every attempt, and is recorded wherever anything of it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from PIL import Image

from ltgc_local.backends.images import to_stored
from ltgc_local.backends.protocols import Drawing, DrawSettings
from ltgc_local.errors import BackendError
from ltgc_local.methods.ltgc.stages.draw import GeneratingStage, generated_image
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.methods.tgn.budget import Wanted, list_wanted
from ltgc_local.methods.tgn.classes import ClassEntry
from ltgc_local.methods.tgn.feature_space import FeatureSpace
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.records import Acceptance, Description
from ltgc_local.runs.files import Artefact, GeneratedImage, Images

log = logging.getLogger(__name__)


class DrawTailStage(ChunkedStage[DiffusionRecipe, Wanted], TgnStage, GeneratingStage[Wanted, GeneratedImage]):
    """Generates the images of one attempt."""

    @property
    def attempt(self) -> int:
        attempt: int = self.step.options["attempt"]
        return attempt

    def chunks(self) -> list[Sequence[Wanted]]:
        """Return the images that the budget wants; after the first attempt, those that the last one failed to get."""
        settings = self.recipe.diffusion
        wanted = list_wanted(self.corpus, self.manifest, self.recipe)
        if self.attempt:
            judged = self.run.records(self.input("last scores"), "scores", Acceptance)
            rejected = {(score.class_id, score.description_id) for score in judged if not score.accepted}
            wanted = [each for each in wanted if (each.class_id, each.number) in rejected]
        elif settings.conditioning == "features" and settings.r > settings.r_train:
            log.warning(
                "diffusion: r is %g, but the adapter was trained with r up to r_train = %g; more noise than that is "
                "outside what it has learnt",
                settings.r, settings.r_train,
            )  # fmt: skip
        return split(wanted, settings.shard_size)

    def make_chunk(self, chunk: Sequence[Wanted]) -> list[Artefact]:
        return [Images("images", self.generate(chunk, self.draw_settings()))]

    def drawings(self, items: Sequence[Wanted], attempt: int) -> list[Drawing]:
        """Return what to generate; ``attempt`` counts the retries of an image that came out flat."""
        again = ("again", attempt) if attempt else ()
        seeds = [self.seed("diffusion", each.class_id, each.number, self.attempt, *again) for each in items]
        sources = self.corpus.train.images([each.source_row for each in items])
        features = self.steering(items, sources, seeds)
        return [
            Drawing(
                prompt_of(each, self.manifest.by_id[each.class_id], self._texts),
                seed,
                None if self.recipe.diffusion.strength is None else source,
                None if features is None else features[place],
            )
            for place, (each, source, seed) in enumerate(zip(items, sources, seeds, strict=True))
        ]

    def store(self, item: Wanted, drawing: Drawing, image: Image.Image, attempt: int) -> GeneratedImage:
        settings, key = self.recipe.diffusion, (item.class_id, item.number, self.attempt)
        source = item.source_row if settings.reads_source else None
        stored = to_stored(image, settings.stored_size_px, settings.stored_mode)
        return generated_image(self.corpus, key, drawing.prompt, drawing.seed, source, stored)

    @cached_property
    def _texts(self) -> dict[int, list[str]]:
        """The extended descriptions of each class, in order; none for a recipe that uses the classes' prompts."""
        found: dict[int, list[str]] = {}
        if self.inputs("descriptions"):
            texts = self.run.records(self.input("descriptions"), "descriptions", Description)
            for each in sorted(texts, key=lambda text: text.key):
                found.setdefault(each.class_id, []).append(each.text)
            missing = [entry.class_name for entry in self.manifest.tail if entry.class_id not in found]
            if missing:
                log.warning("diffusion: no description of %s; the class's prompt is used", ", ".join(missing))
        return found

    def steering(
        self, items: Sequence[Wanted], images: Sequence[Image.Image], seeds: Sequence[int]
    ) -> torch.Tensor | None:
        """Return the features (B, F) of real images with noise mixed in; None without conditioning."""
        if self.recipe.diffusion.conditioning == "none":
            return None
        scaled = self._space.scale(self.tail_network.pooled_features(images))
        rngs = [torch.Generator().manual_seed(self.seed("features", seed)) for seed in seeds]
        noise = torch.stack([torch.randn(scaled.shape[1], generator=rng) for rng in rngs])
        labels = torch.tensor([self.manifest.by_id[each.class_id].index for each in items])
        return self._space.mix(scaled, labels, self.recipe.diffusion.r, noise)

    @cached_property
    def _space(self) -> FeatureSpace:
        return FeatureSpace.load(self.run.file_of(self.input("adapter"), "features"))

    def draw_settings(self) -> DrawSettings:
        """Return the settings that all images share.

        Raises:
            BackendError: the strength that corresponds to r is less than one step.
        """
        asked = self.recipe.diffusion
        strength = self.model.strength_of(asked.r) if asked.strength == "from_r" else asked.strength
        if strength is not None and int(asked.draw_steps * strength) < 1:
            raise BackendError(
                f"diffusion: r {asked.r:g} stands for strength {strength:.3f}, which of {asked.draw_steps} steps is "
                "less than one; raise r or draw_steps, or give strength as a number"
            )
        return DrawSettings(
            asked.size_px,
            asked.draw_steps,
            asked.guidance,
            asked.negative_prompt,
            strength or 1.0,
            batch_size=asked.draw_batch_size,
            feature_scale=asked.feature_scale,
        )


def prompt_of(wanted: Wanted, entry: ClassEntry, texts: Mapping[int, Sequence[str]]) -> str:
    """Return the class's prompt, or the next of its descriptions; after the last it starts again."""
    of_class = texts.get(wanted.class_id)
    return of_class[wanted.number % len(of_class)] if of_class else entry.prompt
