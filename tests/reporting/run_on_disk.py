"""A run directory as the pipeline writes it, without models: real images stand in for generated ones.

Only the tests use it. Every file goes through the product's own writers, so the report reads what it will really find.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.datasets.groups import tail_classes
from ltgc_local.evaluation.duplicates import perceptual_hashes, pixel_digests
from ltgc_local.image_decoding import Decoded
from ltgc_local.methods.stages.compare_images import ImageGroup, compare
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import Recipe, class_of
from ltgc_local.recipe.inputs import Data
from ltgc_local.records import ClassTemplate, Description, EpochMetrics, Rejected, Score
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import (
    Artefact,
    GeneratedImage,
    Images,
    Json,
    Lines,
    decode_png,
    encode_png,
)
from tests.provenances import write_provenance

REPOSITORY = Path(__file__).parents[2]
ROLES = ("vlm", "llm", "t2i", "clip")


@dataclass(frozen=True, eq=False)
class ListSplit:
    """A split whose images are all the same grey square: for corpora of any shape."""

    name: str
    labels: Any
    size_px: int = 8
    files: Sequence[Path] = ()

    @cached_property
    def keys(self) -> list[str]:
        return [f"{self.name}/{row:05d}" for row in range(len(self))]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, row: int) -> Image.Image:
        noise = np.random.default_rng(row).integers(0, 256, (self.size_px, self.size_px, 3), dtype=np.uint8)
        return Image.fromarray(noise)

    def decoded(self, row: int) -> Decoded:
        return Decoded(self.image(row))

    def images(self, rows: Any) -> list[Image.Image]:
        return [self.image(int(row)) for row in rows]

    def missing(self) -> tuple[list[str], list[str]]:
        return [], []


def list_corpus(names: Sequence[str], train: Sequence[int], test: int = 4, size_px: int = 8) -> Corpus:
    """Return a corpus with these numbers of training images per class."""
    ids = np.arange(len(names))
    even = np.repeat(ids, test)
    return Corpus(
        "made up",
        tuple(names),
        ListSplit("train", np.repeat(ids, train), size_px),
        ListSplit("val", even, size_px),
        ListSplit("test", even, size_px),
    )


def shipped_corpus() -> Corpus:
    return open_corpus(Data(root=REPOSITORY / "data" / "fashion_mnist_lt"))


def make_recipe(**blocks: dict[str, Any]) -> Recipe:
    """Return a small recipe, changed by ``blocks``."""
    values: dict[str, Any] = {
        "name": "small",
        "data": {"root": REPOSITORY / "data" / "fashion_mnist_lt"},
        "models": {"cards": REPOSITORY / "model_cards"} | {role: f"tiny-{role}" for role in ROLES},
        "describe": {"tail_below": 20},
        "extend": {"max_descriptions": 24},
        "train": {"epochs": 4},
    }
    for name, block in blocks.items():
        values[name] = values.get(name, {}) | block
    return class_of(values).model_validate(values)


def make_metrics(
    corpus: Corpus, by_group: Mapping[str, Mapping[str, float | None]], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return metrics of the arms with these accuracies by group and something near them for every class.

    The difference from the control is known to a point up and down.
    """
    rng = random.Random(seed)
    metrics: dict[str, dict[str, Any]] = {
        arm: dict(groups)
        | {"per_class": {str(c): round(min(100, rng.gauss(70, 10)), 4) for c in range(len(corpus.class_names))}}
        for arm, groups in by_group.items()
    }
    if {"ltgc", "control"} <= by_group.keys():
        before, after = by_group["control"], by_group["ltgc"]
        pairs = {group: (value, before.get(group)) for group, value in after.items()}
        metrics["ltgc"]["minus_control"] = {
            group: None if one is None or other is None else [one - other - 1, one - other + 1]
            for group, (one, other) in pairs.items()
        }
    return metrics


def make_group(name: str, images: Sequence[tuple[str, int, Image.Image]]) -> ImageGroup:
    """Return the leak guard's fingerprints of images (key, class, image); their hashes' bits serve as embeddings."""
    pictures = [image for _, _, image in images]
    hashes = perceptual_hashes(pictures)
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)  # (N, 64)
    return ImageGroup(
        name,
        pixel_digests(pictures),
        hashes,
        np.arange(len(images)),
        [(bits.astype(np.float32) * 2 - 1) / 8],
        lambda rows: [images[row][:2] for row in rows.tolist()],
    )


class RunWriter:
    """Writes the steps of one recipe in their order."""

    def __init__(self, root: Path, recipe: Recipe, corpus: Corpus, accept_rate: float = 0.7) -> None:
        self.run = RunDirectory(root)
        self.recipe = recipe
        self.corpus = corpus
        self.accept_rate = accept_rate
        self.steps = {step.name: step for step in build_plan(recipe)}
        self.tail = tail_classes(corpus.class_counts(), recipe.describe.tail_below)
        self.rng = random.Random(recipe.seed)
        self.drawn: list[GeneratedImage] = []
        self.scores: dict[tuple[int, int, int], Score] = {}

    def write(self, step: str, artefacts: list[Artefact], items: int, numbered: bool = True) -> None:
        facts = {"items": items, "seconds": 1.0, "peak_mib": 512}
        self.run.write_chunk(step, 0, artefacts, facts, numbered)
        fingerprint = {"seed": self.recipe.seed} | {f"reads {name}": "0" for name in self.steps[step].reads}
        self.run.write_manifest(step, fingerprint, 1, wall_seconds=2.0)

    def write_all(self, metrics: Mapping[str, Any]) -> RunDirectory:
        """Write every step but the report."""
        self.write_texts()
        if self.recipe.assess.enabled:
            templates = [
                ClassTemplate(c, f"A photo of the class {name} with a plain surface.", c in self.tail[:1])
                for c, name in enumerate(self.corpus.class_names)
            ]
            self.write("assess/template", [Lines("templates", templates)], len(templates))
            for number in range(self.recipe.assess.attempts):
                self.write_round(number)
        is_judged = self.recipe.assess.enabled
        by_key = {image.key: image for image in self.drawn}
        by_round = sorted(self.drawn, key=lambda image: image.key)
        last = list({image.key[:2]: image for image in by_round}.values())
        trains = {row.key for row in last if not is_judged or self.scores[row.key].accepted}
        accepted = [by_key[row.key] for row in last if row.key in trains]
        excluded = [
            Rejected(row.class_id, row.description, "missed", "assess") for row in last if row.key not in trains
        ]
        shards = [Images("images", accepted)] if accepted else []
        self.write("generated", [Lines("excluded", excluded), *shards], 1)
        if self.recipe.leaks.enabled:
            self.write_leaks(accepted)
        for arm in ("ltgc", "control") if self.recipe.train.control else ("ltgc",):
            self.write(f"train/{arm}", [Lines("history", self.history(arm))], 1, numbered=False)
        for step in (name for name in self.steps if name.startswith(("validate/", "predict/"))):
            self.write(step, [], 1)
        self.write("evaluate", [Json("metrics", metrics)], 1, numbered=False)
        self.write_provenance("miniature")
        return self.run

    def write_leaks(self, accepted: Sequence[GeneratedImage]) -> None:
        """Compare the first images of every group, with their hashes in place of embeddings."""
        generated = [("_".join(map(str, i.key)), i.class_id, decode_png(i.image)) for i in accepted[:40]]
        groups = [make_group("generated", generated)]
        for part in (self.corpus.train, self.corpus.test):
            rows = np.flatnonzero(np.isin(part.labels, self.tail))[:60].tolist()
            groups.append(
                make_group(part.name, [(part.keys[row], int(part.labels[row]), part.image(row)) for row in rows])
            )
        found = [compare(groups[i], groups[j], self.recipe.leaks) for i, j in ((0, 2), (0, 1), (1, 2))]
        for step in ("leaks/originals", "leaks/generated"):
            self.write(step, [Json("made", "up")], 1)
        pairs = Lines("pairs", [pair for pairs, _ in found for pair in pairs])
        self.write("leaks/compare", [pairs, Json("counts", [count for _, count in found])], 1, numbered=False)

    def write_texts(self) -> None:
        counts, rows = self.corpus.class_counts(), self.corpus.train.labels
        existing, extended, rejected, summary = [], [], [], {}
        for class_id in self.tail:
            name = self.corpus.class_names[class_id]
            keys = [self.corpus.train.keys[int(row)] for row in np.flatnonzero(rows == class_id)]
            texts = [f"A photo of the class {name} with a dark tone and number {i} on it." for i in range(len(keys))]
            existing += [
                Description(class_id, i, 0, text, "existing", key)
                for i, (text, key) in enumerate(zip(texts, keys, strict=True))
            ]
            wanted = max(0, self.recipe.extend.max_descriptions - counts[class_id])
            text = f"A photo of the class {name} with a bright tone, horizontal stripes and a flat sole in a wide view"
            extended += [
                Description(class_id, len(keys) + i, 0, f"{text} number {i}.", "extended") for i in range(wanted)
            ]
            reasons = ["repeats another description"] * 3 + ["states no feature and no scene"]
            reasons += ["no beginning of it fits the CLIP tokens"] * 2 + ["is cut off"]
            rejected += [Rejected(class_id, "…", reason, "extend") for reason in reasons]
            summary[name] = {"existing": len(keys), "extended": wanted, "missing": 0, "asks": 5}
        lost = [Rejected(self.tail[0], "Sure!", "empty reply", "describe")] if self.tail else []
        self.write("describe", [Lines("rejected", lost), Lines("descriptions", existing)], len(existing))
        artefacts = [Lines("rejected", rejected), Json("summary", summary), Lines("descriptions", extended)]
        self.write("extend", artefacts, len(self.tail))
        self.write_images("draw", extended)

    def write_images(self, step: str, descriptions: Sequence[Description]) -> None:
        test = self.corpus.test
        rows = {c: np.flatnonzero(test.labels == c) for c in self.tail}
        images = [
            GeneratedImage(
                encode_png(
                    test.image(int(rows[d.class_id][(d.description_id + 37 * d.round) % len(rows[d.class_id])]))
                ),
                d.class_id,
                self.corpus.class_names[d.class_id],
                d.description_id,
                d.text,
                d.round,
                seed=1,
            )
            for d in descriptions
        ]
        self.drawn += images
        self.write(step, [Images("images", images)], len(images))

    def write_round(self, number: int) -> None:
        images = [image for image in self.drawn if image.round == number]
        scores = [self.judge(image) for image in images]
        self.scores |= {score.key: score for score in scores}
        self.write(f"assess/{number}/detect", [Lines("scores", scores)], len(scores))
        if f"assess/{number}/refine" in self.steps:
            missed = [image for image, score in zip(images, scores, strict=True) if not score.accepted]
            refined = [
                Description(i.class_id, i.description_id, number + 1, f"{i.description[:-1]}, refined.", "refined")
                for i in missed
            ]
            rejected = [Rejected(i.class_id, "no", "empty reply", "refine") for i in missed[:1]]
            artefacts = [Lines("rejected", rejected), Lines("descriptions", refined)]
            self.write(f"assess/{number}/refine", artefacts, len(refined))
            self.write_images(f"assess/{number}/redraw", refined)

    def judge(self, image: GeneratedImage) -> Score:
        accepted = self.rng.random() < self.accept_rate
        cosine = 0.6 + (0.1 if accepted else -0.1) * self.rng.random()
        failed = () if accepted else ("percentile",)
        return Score(*image.key, cosine, 1 if accepted else 4, threshold=0.6, failed=failed)

    def history(self, arm: str) -> list[EpochMetrics]:
        gain = 6.0 if arm == "ltgc" else 0.0
        few = any(count < 20 for count in self.corpus.class_counts().values())
        return [
            EpochMetrics(
                e,
                "",
                10 * (e + 1),
                {"loss": 2.0 / (e + 1) + gain / 10},
                0.01,
                {"all": 70 + e + gain, "few": 50 + 3 * e + gain if few else None},
            )
            for e in range(self.recipe.train.epochs)
        ]

    def write_provenance(self, evidence: str) -> None:
        write_provenance(self.run.root, evidence, ROLES, "0123456789abcdef", self.recipe.seed)


def report_reads(recipe: Recipe) -> tuple[str, ...]:
    """Return the steps that the recipe's report reads."""
    return build_plan(recipe)[-1].reads
