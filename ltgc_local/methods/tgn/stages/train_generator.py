"""Train generator: CDTG learns to generate the tail classes' images from noise and the tail network's features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ltgc_local.backends.torch_device import to_device
from ltgc_local.errors import BackendError
from ltgc_local.methods.stage import WholeStage
from ltgc_local.methods.tgn.cdtg.consistency import ClipJudge
from ltgc_local.methods.tgn.cdtg.discriminator import Discriminator
from ltgc_local.methods.tgn.cdtg.generator import Widths
from ltgc_local.methods.tgn.cdtg.real_features import to_images
from ltgc_local.methods.tgn.cdtg.sample_grid import SampleGrid
from ltgc_local.methods.tgn.cdtg.tail_generator import TailGenerator
from ltgc_local.methods.tgn.cdtg.training import CdtgTraining
from ltgc_local.methods.tgn.cdtg.warm_start import start_from
from ltgc_local.methods.tgn.class_data import part_of
from ltgc_local.methods.tgn.classes import ClassEntry
from ltgc_local.methods.tgn.network import TailNetwork, image_cache
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.methods.training import train
from ltgc_local.recipe import GanRecipe
from ltgc_local.records import EpochMetrics
from ltgc_local.runs.files import Artefact, Lines, Tensors, write_atomically
from ltgc_local.training.distributed import main_process_first
from ltgc_local.training.images import ImageSet
from ltgc_local.training.optimization import clone_weights

ROWS, COLUMNS = 16, 8  # of the grids of samples: tail classes at most, and images of each


class TrainGeneratorStage(WholeStage[GanRecipe], TgnStage):
    """Trains generator and discriminator."""

    def make(self) -> list[Artefact]:
        settings, device = self.recipe.cdtg, self.device
        entries = generated_classes(self)
        tail_network = self.tail_network
        if settings.behaviour == "released":
            tail_network.use_batch_statistics()
        torch.manual_seed(self.seed("generator"))
        generator = build_generator(self, entries, tail_network, device)
        discriminator = Discriminator(generator.widths, settings.label_fusion)
        if settings.start_from is not None:
            start_from(settings.start_from, generator, discriminator)
        folder = self.run.folder(self.step.name)
        folder.mkdir(parents=True, exist_ok=True)
        images = load_images(self, entries)
        clip = build_judge(self, entries)
        seed = self.seed("gan")
        training = CdtgTraining(settings, images, generator, discriminator, tail_network, clip, device, seed)
        draw_grid = self._grid_drawer(training, images, tail_network)

        def write_samples(epoch: EpochMetrics) -> None:
            if training.accelerator.is_main_process:
                write_atomically(draw_grid(), folder / f"samples-{epoch.step:07d}.png")

        history = train(self, training, settings.checkpoint_minutes, write_samples)
        with training.average.in_place():
            weights = clone_weights(kept_weights(generator, settings.behaviour))
        return [
            Lines("history", history),
            draw_grid(),
            Tensors("discriminator", clone_weights(discriminator.state_dict())),
            Tensors("generator", weights, metadata=generator.facts()),
        ]

    def _grid_drawer(
        self, training: CdtgTraining, images: ImageSet, tail_network: TailNetwork
    ) -> Callable[[], SampleGrid]:
        """Return what draws the averaged generator's samples: a row per tail class, of fixed noise and images."""
        settings, num_classes = self.recipe.cdtg, min(ROWS, len(self.manifest.tail))
        rows = np.concatenate(
            [np.resize(np.flatnonzero(images.labels == label), COLUMNS) for label in range(num_classes)]
        )
        generator = training.generator
        random = generator.draw_seeded([self.seed("sample", i) for i in range(len(rows))], settings.style_mixing)
        random = random.to(training.device)
        pixels = to_images(images.gather(rows), training.device)
        labels = to_device(torch.from_numpy(images.labels[rows]), training.device)

        @torch.no_grad()
        def draw() -> SampleGrid:
            drawn = []
            with training.average.in_place():
                for first in range(0, len(rows), COLUMNS):
                    part = slice(first, first + COLUMNS)
                    features = tail_network.features(pixels[part]).float() if generator.fusion is not None else None
                    drawn.append(generator(random.part(part), labels[part], features, settings.r).cpu())
            return SampleGrid("samples", torch.cat(drawn), COLUMNS)

        return draw


def generated_classes(stage: TgnStage) -> tuple[ClassEntry, ...]:
    """Return the classes that the generator learns, in the order of its labels: the tail, then perhaps the head."""
    manifest = stage.manifest
    return manifest.tail + (manifest.head if stage.recipe.cdtg.classes == "all" else ())


def build_generator(
    stage: TgnStage, entries: Sequence[ClassEntry], tail_network: TailNetwork, device: str
) -> TailGenerator:
    settings = stage.recipe.cdtg
    widths = Widths(
        settings.size_px,
        len(entries),
        settings.style_dim,
        settings.mlp_layers,
        settings.mlp_lr,
        settings.channel_multiplier,
        settings.max_channels,
    )
    blank = torch.zeros(2, 3, settings.size_px, settings.size_px, device=device)
    with torch.no_grad():
        channels, height, width = tail_network.features(blank).shape[1:]
    if settings.behaviour == "released" and height * width == 1:
        raise BackendError(
            f"cdtg: the released behaviour normalises each image by itself, but {stage.recipe.kmdn.feature} gives "
            f"maps of 1 x 1 at {settings.size_px} px; type --set cdtg.size_px={2 * settings.size_px}"
        )
    fusion = settings.fusion if settings.features else None
    texts = None
    if settings.text_condition:
        texts = stage.model.encode_texts([entry.prompt for entry in entries]).clone()
    return TailGenerator(widths, fusion, (channels, height, width), texts)


def build_judge(stage: TgnStage, entries: Sequence[ClassEntry]) -> ClipJudge | None:
    """Return what gives the CLIP loss, over the prompts of the tail classes or of all, the tail's first."""
    settings, manifest = stage.recipe.cdtg, stage.manifest
    if not settings.clip_weight:
        return None
    entries = manifest.tail + (manifest.head if settings.clip_classes == "all" else ())
    return ClipJudge(stage.model, [entry.prompt for entry in entries])


def load_images(stage: TgnStage, entries: Sequence[ClassEntry]) -> ImageSet:
    """Decode the classes' training images at the generator's size; their labels are the places in ``entries``."""
    recipe = stage.recipe
    part = part_of(stage.corpus.train, [entry.class_id for entry in entries], f"train-cdtg-{recipe.cdtg.classes}")
    folder = stage.run.decoded
    images = image_cache(recipe.cdtg, folder, recipe.cdtg.size_px, recipe.data)
    place = {entry.class_id: number for number, entry in enumerate(entries)}
    labels = np.array([place[class_id] for class_id in part.labels.tolist()], dtype=np.int64)
    with main_process_first(recipe.models.device):  # which decodes for all
        return ImageSet((images.load(part),), labels)


def kept_weights(generator: TailGenerator, behaviour: str) -> dict[str, torch.Tensor]:
    """Return the weights to keep: all, or as the released code all but the fusion map's."""
    weights = generator.state_dict()
    if behaviour == "released":
        return {name: tensor for name, tensor in weights.items() if not name.startswith("fusion.")}
    return weights
