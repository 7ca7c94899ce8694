"""Train generator: CDTG learns to generate the tail classes' images from noise and the tail network's features."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch

from ltgc_local.backends.torch_device import to_device
from ltgc_local.errors import BackendError
from ltgc_local.methods.stage import WholeStage
from ltgc_local.methods.tgn.cdtg.discriminator import Discriminator
from ltgc_local.methods.tgn.cdtg.generator import Widths
from ltgc_local.methods.tgn.cdtg.losses import ClipJudge
from ltgc_local.methods.tgn.cdtg.pixels import SampleGrid, to_images
from ltgc_local.methods.tgn.cdtg.tail_generator import TailGenerator
from ltgc_local.methods.tgn.cdtg.training import CdtgTraining
from ltgc_local.methods.tgn.cdtg.warm_start import start_from
from ltgc_local.methods.tgn.class_data import index_labels, part_of
from ltgc_local.methods.tgn.classes import ClassEntry
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.methods.training import train
from ltgc_local.recipe import GanRecipe
from ltgc_local.records import EpochMetrics
from ltgc_local.runs.files import Artefact, Lines, Tensors, write_atomically
from ltgc_local.training.images import ImageSet
from ltgc_local.training.optimization import clone_weights

ROWS, COLUMNS = 16, 8  # of the grids of samples: at most this many tail classes, and images of each


class TrainGeneratorStage(WholeStage[GanRecipe], TgnStage):
    """Trains generator and discriminator."""

    def make(self) -> list[Artefact]:
        settings, tail_network = self.recipe.cdtg, self.tail_network  # loaded first: it uses torch's random numbers
        if settings.behaviour == "released":
            tail_network.use_batch_statistics()
        torch.manual_seed(self.seed("generator"))
        generator = self._generator()
        discriminator = Discriminator(generator.widths, settings.label_fusion)
        if settings.start_from is not None:
            start_from(settings.start_from, generator, discriminator)
        folder = self.run.folder(self.step.name)
        folder.mkdir(parents=True, exist_ok=True)
        networks = (generator, discriminator, tail_network, self._judge())
        training = CdtgTraining(settings, self._images, *networks, self.device, self.seed("gan"))
        sample = self._sampler(training)

        def write_samples(epoch: EpochMetrics) -> None:
            if training.accelerator.is_main_process:
                write_atomically(sample(), folder / f"samples-{epoch.step:07d}.png")

        history = train(self, training, settings.checkpoint_minutes, write_samples)
        with training.average.in_place():
            weights = clone_weights(generator.state_dict())
        if settings.behaviour == "released":  # which does not keep the fusion map
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith("fusion.")}
        return [
            Lines("history", history),
            sample(),
            Tensors("discriminator", clone_weights(discriminator.state_dict())),
            Tensors("generator", weights, metadata=generator.facts()),
        ]

    def _classes(self, which: str) -> tuple[ClassEntry, ...]:
        """Return the tail classes or ``all``, in the order of the generator's labels: the tail first."""
        return self.manifest.tail + (self.manifest.head if which == "all" else ())

    def _generator(self) -> TailGenerator:
        settings, entries = self.recipe.cdtg, self._classes(self.recipe.cdtg.classes)
        widths = Widths(
            settings.size_px,
            len(entries),
            settings.style_dim,
            settings.mlp_layers,
            settings.mlp_lr,
            settings.channel_multiplier,
            settings.max_channels,
        )
        with torch.no_grad():
            blank = torch.zeros(2, 3, settings.size_px, settings.size_px, device=self.device)
            channels, height, width = self.tail_network.features(blank).shape[1:]
        if settings.behaviour == "released" and height * width == 1:
            raise BackendError(
                f"cdtg: the released behaviour normalises each image by itself, but {self.recipe.kmdn.feature} gives "
                f"maps of 1 x 1 at {settings.size_px} px; type --set cdtg.size_px={2 * settings.size_px}"
            )
        prompts = [entry.prompt for entry in entries]
        texts = self.model.encode_texts(prompts).clone() if settings.text_condition else None
        fusion = settings.fusion if settings.features else None
        return TailGenerator(widths, fusion, (channels, height, width), texts)

    def _judge(self) -> ClipJudge | None:
        """Return what computes the CLIP loss over the prompts of the tail or of all classes; None without that loss."""
        settings = self.recipe.cdtg
        prompts = [entry.prompt for entry in self._classes(settings.clip_classes)]
        return ClipJudge(self.model, prompts) if settings.clip_weight else None

    @cached_property
    def _images(self) -> ImageSet:
        """The classes' training images, decoded at the generator's size, with the generator's labels."""
        settings = self.recipe.cdtg
        class_ids = [entry.class_id for entry in self._classes(settings.classes)]
        part = part_of(self.corpus.train, class_ids, f"train-cdtg-{settings.classes}")
        return ImageSet((self.decode(settings, part),), index_labels(part.labels, class_ids))

    def _sampler(self, training: CdtgTraining) -> Callable[[], SampleGrid]:
        """Return a function that samples the averaged generator: a row per tail class, with fixed noise and images."""
        settings, generator, device, images = self.recipe.cdtg, training.generator, training.device, self._images
        labels = range(min(ROWS, len(self.manifest.tail)))
        rows = np.concatenate([np.resize(np.flatnonzero(images.labels == label), COLUMNS) for label in labels])
        seeds = [self.seed("sample", i) for i in range(len(rows))]
        random = generator.draw_seeded(seeds, settings.style_mixing).to(device)
        pixels = to_images(images.gather(rows), device)
        targets = to_device(torch.from_numpy(images.labels[rows]), device)

        @torch.no_grad()
        def sample() -> SampleGrid:
            found = []
            with training.average.in_place():
                for first in range(0, len(rows), COLUMNS):
                    part = slice(first, first + COLUMNS)
                    features = None if generator.fusion is None else self.tail_network.features(pixels[part]).float()
                    found.append(generator(random.part(part), targets[part], features, settings.r).cpu())
            return SampleGrid("samples", torch.cat(found), COLUMNS)

        return sample
