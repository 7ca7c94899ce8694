"""Draw tail: the trained diffusion model draws the tail classes' images, and again those that the accept test refused.

An image's noise, and the noise in its features, come from its own seed: class, number, attempt. Which real image is
behind it stays the same over attempts, and is recorded where anything of it enters.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from PIL import Image

from ltgc_local.backends.images import to_stored
from ltgc_local.backends.protocols import Drawing, DrawSettings, TextToImageModel
from ltgc_local.errors import BackendError
from ltgc_local.methods.ltgc.stages.draw import draw_each
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.methods.tgn.budget import Wanted, list_wanted
from ltgc_local.methods.tgn.classes import ClassEntry
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.methods.tgn.tail_features import FeatureSpace, features_of
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.records import Acceptance, Description
from ltgc_local.runs.files import Artefact, GeneratedImage, Images, encode_png

log = logging.getLogger(__name__)


class DrawTailStage(ChunkedStage[DiffusionRecipe, Wanted], TgnStage):
    """Generates one attempt's images."""

    def chunks(self) -> list[Sequence[Wanted]]:
        """Return what the budget wants; after the first attempt, what the last one's accept test refused of it."""
        settings, attempt = self.recipe.diffusion, self.step.options["attempt"]
        wanted = list_wanted(self.corpus, self.manifest, self.recipe)
        if attempt == 0:
            if settings.conditioning == "features" and settings.r > settings.r_train:
                log.warning(
                    "diffusion: r is %g, but training mixed at most r_train, %g; it knows no noisier features well",
                    settings.r, settings.r_train,
                )  # fmt: skip
            return split(wanted, settings.shard_size)
        tested = self.run.records(self.input("last scores"), "scores", Acceptance)
        refused = {(each.class_id, each.description_id) for each in tested if not each.accepted}
        return split([each for each in wanted if (each.class_id, each.number) in refused], settings.shard_size)

    def make_chunk(self, chunk: Sequence[Wanted]) -> list[Artefact]:
        model: TextToImageModel = self.model
        settings, train = self.recipe.diffusion, self.corpus.train
        drawn_with = draw_settings(self, model)
        entries = {entry.class_id: entry for entry in self.manifest.tail}
        sources = dict(zip(rows := [each.source_row for each in chunk], train.images(rows), strict=True))
        attempt = self.step.options["attempt"]

        def drawings(places: Sequence[int], again: int) -> list[Drawing]:
            """Return what to draw; ``again`` counts the drawings of an image that came out flat."""
            part = [chunk[place] for place in places]
            more = ("again", again) if again else ()
            seeds = [self.seed("diffusion", each.class_id, each.number, attempt, *more) for each in part]
            steering = self._steering(part, [sources[each.source_row] for each in part], entries, seeds)
            return [
                Drawing(
                    prompt_of(each, entries[each.class_id], self._texts),
                    seed,
                    None if settings.strength is None else sources[each.source_row],
                    None if steering is None else steering[place],
                )
                for place, (each, seed) in enumerate(zip(part, seeds, strict=True))
            ]

        def row(place: int, drawing: Drawing, image: Image.Image, again: int) -> GeneratedImage:
            each = chunk[place]
            return GeneratedImage(
                image=encode_png(to_stored(image, settings.stored_size_px, settings.stored_mode)),
                class_id=each.class_id,
                class_name=entries[each.class_id].class_name,
                description_id=each.number,
                description=drawing.prompt,
                round=attempt,
                seed=drawing.seed,
                init_image=train.keys[each.source_row] if settings.reads_source else "",
            )

        return [Images("images", draw_each(model, drawn_with, len(chunk), drawings, row, self.progress.advance))]

    @cached_property
    def _texts(self) -> dict[int, list[str]]:
        """Return the extended descriptions by class, in their order; nothing where classes' prompts are drawn."""
        found: dict[int, list[str]] = {}
        if self.inputs("descriptions"):
            texts = self.run.records(self.input("descriptions"), "descriptions", Description)
            for each in sorted(texts, key=lambda text: text.key):
                found.setdefault(each.class_id, []).append(each.text)
            missing = [entry.class_name for entry in self.manifest.tail if entry.class_id not in found]
            if missing:
                log.warning("diffusion: no description of %s; the class's prompt is drawn", ", ".join(missing))
        return found

    def _steering(
        self,
        part: Sequence[Wanted],
        images: Sequence[Image.Image],
        entries: Mapping[int, ClassEntry],
        seeds: Sequence[int],
    ) -> torch.Tensor | None:
        """Return the features (B, F) of the images' real ones with noise mixed in; None without conditioning."""
        settings = self.recipe.diffusion
        if settings.conditioning == "none":
            return None
        space = self._feature_space
        scaled = space.scale(features_of(self.tail_network, images, self.device))
        rngs = [torch.Generator().manual_seed(self.seed("features", seed)) for seed in seeds]
        noise = torch.stack([torch.randn(scaled.shape[1], generator=rng) for rng in rngs])
        labels = torch.tensor([entries[each.class_id].index for each in part])
        return space.mix(scaled, labels, settings.r, noise)

    @cached_property
    def _feature_space(self) -> FeatureSpace:
        return FeatureSpace.load(self.run.files(self.input("adapter"), "features")[0])


def draw_settings(stage: TgnStage, model: TextToImageModel) -> DrawSettings:
    """Return what the recipe says of every drawing.

    Raises:
        BackendError: the strength that r stands for is less than a step.
    """
    asked = stage.recipe.diffusion
    strength = model.strength_of(asked.r) if asked.strength == "from_r" else asked.strength
    if strength is not None and int(asked.draw_steps * strength) < 1:
        raise BackendError(
            f"diffusion: r {asked.r:g} stands for strength {strength:.3f}, which of {asked.draw_steps} steps is less "
            "than one; raise r or draw_steps, or give strength as a number"
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
    """Return the class's prompt, or the next of its descriptions; after the last it begins again."""
    of_class = texts.get(wanted.class_id)
    return of_class[wanted.number % len(of_class)] if of_class else entry.prompt
