"""A run of iNaturalist 2018's shape with a million images, written as its steps would write it, without any model.

Images are 16 px, embeddings have 512 numbers. Everything else has the sizes of the real thing: classes, rows, shards,
chunks, plans and manifests. ``Size(1)`` is the million; tests write a hundredth of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ltgc_local.datasets import Corpus, open_corpus
from ltgc_local.methods.stage import stage_class
from ltgc_local.methods.stages.compare_images import PAIRS
from ltgc_local.pipeline.fingerprint import fingerprint
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.preparation import Request, look_at_inputs, write_facts
from ltgc_local.pipeline.worker import do_work
from ltgc_local.recipe import Recipe, load_recipe
from ltgc_local.records import ClassTemplate, Description, EpochMetrics, NearPair, Record, Rejected, Score
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Artefact, GeneratedImage, Images, Json, Lines, Table, Tensors, encode_png
from ltgc_local.runs.progress import Progress
from ltgc_local.runs.provenance import write_run_recipe
from ltgc_local.runs.reuse import take_step

CLASSES, TRAIN, TEST, GENERATED = 8142, 437_513, 24_426, 1_000_000
LARGEST, SMALLEST = 1000, 2
MISSED = 0.2  # of the images of a round
DIMENSIONS = 512
LINKS = 30_000  # to one file; ext4 allows 65,000
RECIPE = """\
name: scale
data: {{benchmark: list_files, root: {root}}}
models:
  cards: shipped:model_cards
  vlm: miniature-qwen2.5-vl
  llm: miniature-qwen3
  t2i: miniature-sdxl
  clip: miniature-vit
  device: cpu
describe: {{tail_below: 1001, max_images_per_class: 20}}
extend: {{max_descriptions: 143}}
assess: {{attempts: 3}}
train: {{select: last, epochs: 2}}
"""
TGN_RECIPE = """\
name: scale_tgn
method: tgn
generator: diffusion
data: {{benchmark: list_files, root: {root}}}
models: {{cards: shipped:model_cards, t2i: miniature-sdxl, clip: miniature-vit, device: cpu}}
"""


@dataclass(frozen=True)
class Size:
    """A share of the million: fewer classes with as many images each."""

    share: float = 1.0

    @property
    def classes(self) -> int:
        return max(8, round(CLASSES * self.share))

    @property
    def generated(self) -> int:
        return round(GENERATED * self.share)

    @cached_property
    def counts(self) -> np.ndarray:
        """Training images of each class, (C,): an exponential long tail, the largest first."""
        total, places = round(TRAIN * self.share), np.linspace(0, 1, self.classes)
        low, high = 0.1, 1000.0
        for _ in range(60):
            decay = (low + high) / 2
            counts = np.maximum(SMALLEST, LARGEST * np.exp(-decay * places))
            low, high = (decay, high) if counts.sum() > total else (low, decay)
        return counts.astype(int)


def write_data(root: Path, size: Size) -> None:
    """Write the lists, and a tree of links to a few images: only their names are read."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"Species nova {number}" for number in range(size.classes)]
    (root / "class_names.txt").write_text("\n".join(names) + "\n")
    tests = np.full(size.classes, TEST // CLASSES)
    linked = 0
    source = root / "source.png"
    for split, counts in (("train", size.counts), ("test", tests)):
        lines = []
        for class_id, count in enumerate(counts.tolist()):
            folder = root / split / "Aves" / f"{class_id:04d}"
            folder.mkdir(parents=True)
            for _ in range(count):
                if linked % LINKS == 0:
                    source = root / f"source-{linked // LINKS}.png"
                    source.write_bytes(encode_png(Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))))
                name = f"{rng.bytes(16).hex()}.png"
                os.link(source, folder / name)
                linked += 1
                lines.append(f"{split}/Aves/{class_id:04d}/{name} {class_id}\n")
        (root / f"{split}.txt").write_text("".join(lines))
    (root / "val.txt").write_text((root / "test.txt").read_text())


class ScaleRun:
    """Writes the steps of one run in their order."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder, self.size = folder, size
        self.run = RunDirectory(folder / "run")

    @cached_property
    def recipe(self) -> Recipe:
        path = self.folder / "scale.yaml"
        if not path.exists():
            path.write_text(RECIPE.format(root=self.folder / "data"))
        return load_recipe(path)

    @cached_property
    def corpus(self) -> Corpus:
        return open_corpus(self.recipe.data)

    @cached_property
    def _digests(self) -> dict[str, str]:
        request = Request(self.recipe, self.run.root, "ltgc-local run scale.yaml")
        inputs = look_at_inputs(request)
        write_facts(request, inputs)
        return inputs.digests

    def write(self, until: str = "report") -> None:
        """Write data and every step before ``until``; steps that are complete stay."""
        if not (self.folder / "data").exists():
            write_data(self.folder / "data", self.size)
        self.run.root.mkdir(exist_ok=True)
        for step in build_plan(self.recipe):
            if step.name == until:
                break
            if self.run.manifest(step.name) is not None:
                continue
            wanted = fingerprint(step, self.recipe, self.run, self._digests)
            self.run.begin(step.name, wanted)
            number = 0
            for number, (artefacts, items) in enumerate(self._chunks(step.name), start=1):
                facts = {"items": items, "seconds": 1.0, "peak_mib": 512}
                self.run.write_chunk(step.name, number - 1, artefacts, facts, step.stage.parallel == "chunks")
            self.run.write_manifest(step.name, wanted, number, 60.0)

    def bring_to(self, state: str) -> None:
        """Bring the run to a state: judged, half collected, collected, fingerprinted, or trained."""
        if state == "judged":
            self.write("generated")
            return
        self.write("generated")
        folder = self.run.folder("generated")
        if self.run.manifest("generated") is None:
            self._collect()
        records = sorted((folder / "chunks").glob("[0-9]*.json"))
        if state == "half collected":
            (folder / "manifest.json").unlink()
            for path in records[len(records) // 2 :]:
                path.unlink()
        elif state != "collected":
            self.write({"fingerprinted": "leaks/compare", "trained": "report"}[state])
            if state == "fingerprinted" and not (self.folder / "tgn").exists():
                self.write_tgn()

    def _collect(self) -> None:
        step = next(step for step in build_plan(self.recipe) if step.name == "generated")
        wanted = fingerprint(step, self.recipe, self.run, self._digests)
        self.run.begin(step.name, wanted)
        do_work(stage_class(step)(self.recipe, step, self.run, Progress(step.name, with_bar=False)))
        self.run.write_manifest(step.name, wanted, self.run.num_chunks(step.name), 60.0)

    def write_tgn(self) -> None:
        """Write a run of TGN with the same images, up to its step ``merge``."""
        path, run = self.folder / "scale_tgn.yaml", RunDirectory(self.folder / "tgn")
        path.write_text(TGN_RECIPE.format(root=self.folder / "data"))
        recipe = load_recipe(path)
        run.root.mkdir(exist_ok=True)
        write_run_recipe(run.root, recipe)
        take_step("generated", self.run, run)
        classes = build_plan(recipe)[0]
        run.begin(classes.name, {})
        do_work(stage_class(classes)(recipe, classes, run, Progress(classes.name, with_bar=False)))
        run.write_manifest(classes.name, {}, 1, 1.0)

    def _chunks(self, step: str) -> Iterator[tuple[list[Artefact], int]]:
        name = step.rpartition("/")[2]
        if name in ("describe", "extend"):
            yield from (self._describe() if name == "describe" else self._extend())
        elif name in ("draw", "redraw"):
            yield from self._draw(0 if name == "draw" else int(step.split("/")[1]) + 1)
        elif name == "template":
            names = enumerate(self.corpus.class_names)
            templates = [ClassTemplate(class_id, f"A photo of the class {name}.", False) for class_id, name in names]
            yield from (([Lines("templates", part)], len(part)) for part in _parts(templates, 64))
        elif name == "detect":
            yield from self._detect(int(step.split("/")[1]))
        elif name == "refine":
            round_ = int(step.split("/")[1]) + 1
            texts = [self._description(c, d, round_) for c, d in self._keys(round_)]
            yield from (([*_exchanges(part), Lines("descriptions", part)], len(part)) for part in _parts(texts, 64))
        elif step == "leaks/originals":
            for part in (self.corpus.train, self.corpus.test):
                for rows in _parts(range(len(part)), 4096):
                    found = _fingerprints(part.labels[list(rows)], rows[0] + len(part.name))
                    yield [Tensors(part.name, found)], len(rows)
        elif step == "leaks/generated":
            for seed, path in enumerate(self.run.files("generated", "images")):
                import pyarrow.parquet as pq

                labels = pq.ParquetFile(path).read(["class_id"])["class_id"].to_numpy()
                yield [Tensors("generated", _fingerprints(labels, 10**6 + seed))], len(labels)
        elif step == "leaks/compare":
            yield self._compare(), 1
        elif step.startswith("train/"):
            epochs = (EpochMetrics(e, "", 9 * e, {"loss": 1.0}, 0.01, {"all": 70.0, "few": 50.0}) for e in (0, 1))
            yield [Lines("history", list(epochs))], 1
        elif step.startswith(("predict/", "validate/")):
            test = self.corpus.test if step.startswith("predict/") else self.corpus.val
            columns = {"key": list(test.keys), "label": test.labels, f"{name}.predicted": test.labels.astype(np.int32)}
            yield [Table("predictions", columns)], len(test)
        elif step == "evaluate":
            per_class = {str(c): 70.0 for c in range(self.size.classes)}
            groups = {"all": 70.0, "many": 80.0, "medium": 70.0, "few": 60.0}
            yield [Json("metrics", {arm: {**groups, "per_class": per_class} for arm in ("control", "ltgc")})], 1
        else:
            raise LookupError(f"{step} is made by its own stage")

    def _compare(self) -> list[Artefact]:
        train, test = self.corpus.train, self.corpus.test
        pairs = [NearPair("train", train.keys[i], 0, "test", test.keys[i], 0, False, 3, 0.98) for i in range(9)]
        counts = ("images", "among", "embedded", "embedded_among")
        numbers = dict.fromkeys((*(f"num_{each}" for each in counts), "equal", "by_hash", "by_embedding", "in_all"), 9)
        closest = {"closest_hash_distance": 3, "closest_cosine": 0.98}
        found = [{"images": one, "among": other, **numbers, **closest} for one, other in PAIRS]
        return [Lines("pairs", pairs), Json("counts", found)]

    @cached_property
    def _wanted(self) -> list[tuple[int, int]]:
        """The keys (class_id, description_id) of the first round, sorted; they follow the existing descriptions."""
        numbers = np.bincount(np.arange(self.size.generated) % self.size.classes, minlength=self.size.classes)
        existing = np.minimum(self.size.counts, 20)
        return [(c, int(existing[c]) + i) for c, n in enumerate(numbers.tolist()) for i in range(n)]

    def _keys(self, round_: int) -> list[tuple[int, int]]:
        """The keys of a round: those that missed in all rounds before it."""
        keys = self._wanted
        for number in range(round_):
            keys = [key for key in keys if self._misses(*key, number)]
        return keys

    @staticmethod
    def _misses(class_id: int, description_id: int, round_: int) -> bool:
        return hash((class_id, description_id, round_)) % 1000 < 1000 * MISSED

    def _description(self, class_id: int, description_id: int, round_: int) -> Description:
        text = (
            f"A photo of the class {self.corpus.class_names[class_id]} with a mottled brown back, number "
            f"{description_id}, a pale throat and a long bill, on a mossy branch in the rain in round {round_}."
        )
        return Description(class_id, description_id, round_, text, "refined" if round_ else "extended")

    def _describe(self) -> Iterator[tuple[list[Artefact], int]]:
        train = self.corpus.train
        rows_of = np.split(np.argsort(train.labels, kind="stable"), np.cumsum(self.size.counts)[:-1])
        texts = [
            Description(c, i, 0, self._description(c, i, 0).text, "existing", train.keys[row])
            for c, rows in enumerate(rows_of)
            for i, row in enumerate(rows[:20].tolist())
        ]
        yield from (([*_exchanges(part), Lines("descriptions", part)], len(part)) for part in _parts(texts, 256))

    def _extend(self) -> Iterator[tuple[list[Artefact], int]]:
        keys = np.array(self._wanted)
        for classes in _parts(range(self.size.classes), 16):
            texts = [self._description(c, d, 0) for c, d in keys[np.isin(keys[:, 0], classes)].tolist()]
            rejected = [Rejected(c, "…", "repeats another description", "extend") for c in classes for _ in range(9)]
            counts = {"existing": 20, "extended": len(texts) // len(classes), "missing": 0, "asks": 5}
            summary = {self.corpus.class_names[c]: counts for c in classes}
            files = [Lines("rejected", rejected), Lines("cut", []), Json("summary", summary)]
            yield [Lines("exchanges", []), *files, Lines("descriptions", texts)], len(classes)

    @cached_property
    def _pngs(self) -> list[bytes]:
        rng = np.random.default_rng(1)
        return [encode_png(Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8))) for _ in range(1009)]

    def _draw(self, round_: int) -> Iterator[tuple[list[Artefact], int]]:
        names, pngs = self.corpus.class_names, self._pngs
        for part in _parts(self._keys(round_), 64):
            images = [
                GeneratedImage(pngs[(c + 31 * d) % 1009], c, names[c], d, text, round_, 10**6 * c + d)
                for c, d in part
                for text in [self._description(c, d, round_).text]
            ]
            yield [Images("images", images)], len(images)

    def _detect(self, round_: int) -> Iterator[tuple[list[Artefact], int]]:
        of_class: dict[int, list[int]] = {}
        for class_id, description_id in self._keys(round_):
            of_class.setdefault(class_id, []).append(description_id)
        for class_id, ids in of_class.items():
            scores = [
                Score(class_id, d, round_, 0.25 + d / 977, 4, class_id, 0.31, 44.5, 0.27 + class_id / 10_007, failed)
                for d in ids
                for failed in [("percentile",) if self._misses(class_id, d, round_) else ()]
            ]
            facts = {"round": round_, "drawn": len(ids), "accepted": sum(s.accepted for s in scores), "failed": {}}
            yield [Json("acceptance", {self.corpus.class_names[class_id]: facts}), Lines("scores", scores)], len(ids)


def _exchanges(part: Sequence[Record]) -> list[Artefact]:
    return [Lines("exchanges", []), Lines("rejected", []), Lines("cut", [])]


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _fingerprints(labels: np.ndarray, seed: int) -> dict[str, torch.Tensor]:
    """Return made-up fingerprints; embeddings are as alike as a CLIP's: 0.5 between classes, 0.75 within."""
    rng, num = np.random.default_rng(seed), len(labels)
    spread = (1 + np.arange(DIMENSIONS, dtype=np.float32)) ** -0.25  # as in real embeddings, some directions have more
    seeds, places = np.unique(labels, return_inverse=True)
    classes = np.stack([_normal(10**7 + int(class_id)) for class_id in seeds])[places]
    own = rng.standard_normal((num, DIMENSIONS), dtype=np.float32)
    rows = 0.71 * _unit(_normal(7)[None]) + 0.5 * _unit(classes * spread) + 0.5 * _unit(own * spread)
    return {
        "digest": torch.from_numpy(rng.integers(0, 256, (num, 16), dtype=np.uint8)),
        "hash": torch.from_numpy(rng.integers(-(2**63), 2**63 - 1, num)),
        "is_embedded": torch.ones(num, dtype=torch.bool),
        "embedding": torch.from_numpy(_unit(rows).astype(np.float16)),
    }


def _normal(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(DIMENSIONS, dtype=np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
