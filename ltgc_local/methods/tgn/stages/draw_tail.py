"""Draw tail: the trained diffusion model draws the tail classes' images, and again those that the accept test refused.

An image's noise, and the noise in its features, come from its own seed: class, number, attempt. Which real image is
behind it stays the same over attempts, and is recorded where anything of it enters.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from PIL import Image

from ltgc_local.backends.images import to_stored
from ltgc_local.backends.protocols import Drawing, DrawSettings, TextToImageModel
from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.errors import BackendError
from ltgc_local.methods.context import ADAPTER, Chunk, StageContext, split
from ltgc_local.methods.ltgc.stages.draw import draw_each
from ltgc_local.methods.tgn.budget import Wanted, list_wanted
from ltgc_local.methods.tgn.classes import ClassEntry, read_manifest
from ltgc_local.methods.tgn.network import TailNetwork, load_tail_network
from ltgc_local.methods.tgn.tail_features import FeatureSpace, features_of
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.records import Acceptance, Description
from ltgc_local.runs.files import Artefact, GeneratedImage, Images, encode_png

log = logging.getLogger(__name__)


def attempt_of(step: str) -> int:
    """Return the number of a step's attempt: 1 of ``diffusion/1/draw``."""
    return int(step.split("/")[1])


def plan_chunks(context: StageContext[DiffusionRecipe]) -> list[Chunk]:
    """Return what the budget wants; after the first attempt, what the last one's accept test refused of it."""
    settings, attempt = context.recipe.diffusion, attempt_of(context.step.name)
    wanted = list_wanted(context.corpus, read_manifest(context.run), context.recipe)
    if attempt == 0:
        if settings.conditioning == "features" and settings.r > settings.r_train:
            log.warning(
                "diffusion: r is %g, but training mixed at most r_train, %g; it knows no noisier features well",
                settings.r, settings.r_train,
            )  # fmt: skip
        return split(wanted, settings.shard_size)
    tested = context.run.records(f"diffusion/{attempt - 1}/accept", "scores", Acceptance)
    refused = {(each.class_id, each.description_id) for each in tested if not each.accepted}
    return split([each for each in wanted if (each.class_id, each.number) in refused], settings.shard_size)


def run_chunk(context: StageContext[DiffusionRecipe], chunk: Sequence[Wanted]) -> list[Artefact]:
    model: TextToImageModel = context.model
    settings, train = context.recipe.diffusion, context.corpus.train
    drawn_with = draw_settings(context, model)
    texts = context.once(_read_texts)
    entries = {entry.class_id: entry for entry in read_manifest(context.run).tail}
    sources = dict(zip(rows := [each.source_row for each in chunk], train.images(rows), strict=True))
    attempt = attempt_of(context.step.name)

    def drawings(places: Sequence[int], again: int) -> list[Drawing]:
        """Return what to draw; ``again`` counts the drawings of an image that came out flat."""
        part = [chunk[place] for place in places]
        more = ("again", again) if again else ()
        seeds = [context.seed("diffusion", each.class_id, each.number, attempt, *more) for each in part]
        steering = _steering(context, part, [sources[each.source_row] for each in part], entries, seeds)
        return [
            Drawing(
                prompt_of(each, entries[each.class_id], texts),
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

    return [Images("images", draw_each(model, drawn_with, len(chunk), drawings, row, context.progress.advance))]


def draw_settings(context: StageContext[DiffusionRecipe], model: TextToImageModel) -> DrawSettings:
    """Return what the recipe says of every drawing.

    Raises:
        BackendError: the strength that r stands for is less than a step.
    """
    asked = context.recipe.diffusion
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


def _read_texts(context: StageContext[DiffusionRecipe]) -> dict[int, list[str]]:
    """Return the extended descriptions by class, in their order; nothing where classes' prompts are drawn."""
    found: dict[int, list[str]] = {}
    if "extend" in context.step.reads:
        for each in sorted(context.run.records("extend", "descriptions", Description), key=lambda d: d.key):
            found.setdefault(each.class_id, []).append(each.text)
        missing = [entry.class_name for entry in read_manifest(context.run).tail if entry.class_id not in found]
        if missing:
            log.warning("diffusion: no description of %s; the class's prompt is drawn", ", ".join(missing))
    return found


def _steering(
    context: StageContext[DiffusionRecipe],
    part: Sequence[Wanted],
    images: Sequence[Image.Image],
    entries: Mapping[int, ClassEntry],
    seeds: Sequence[int],
) -> torch.Tensor | None:
    """Return the features (B, F) of the images' real ones with noise mixed in; None without conditioning."""
    settings = context.recipe.diffusion
    if settings.conditioning == "none":
        return None
    device = resolve_device(context.recipe.models.device)
    network, space = context.once(_load_networks)
    scaled = space.scale(features_of(network, images, device))
    rngs = [torch.Generator().manual_seed(context.seed("features", seed)) for seed in seeds]
    noise = torch.stack([torch.randn(scaled.shape[1], generator=rng) for rng in rngs])
    labels = torch.tensor([entries[each.class_id].index for each in part])
    return space.mix(scaled, labels, settings.r, noise)


def _load_networks(context: StageContext[DiffusionRecipe]) -> tuple[TailNetwork, FeatureSpace]:
    """Load the tail network and its features' scale."""
    device = resolve_device(context.recipe.models.device)
    network = load_tail_network(context.run, context.step.reads, device)
    return network, FeatureSpace.load(context.run.files(ADAPTER, "features")[0])
