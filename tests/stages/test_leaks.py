"""The leak guard finds what was planted: an equal image, a changed copy, and nothing where there is nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltgc_local.methods.stage import stage_class
from ltgc_local.pipeline.ongoing import count_chunks
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.pipeline.worker import do_work
from ltgc_local.recipe import load_recipe
from ltgc_local.records import NearPair
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import GeneratedImage, Images, Lines, encode_png
from ltgc_local.runs.progress import Progress

ROOT = Path(__file__).resolve().parents[2]
NUM = {"train": 12, "val": 2, "test": 9}


def make_image(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5), dtype=np.uint8)
    return Image.fromarray(coarse).resize((28, 28), Image.Resampling.BICUBIC)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of images, two classes; all different."""
    seeds = iter(range(1000))
    for split, number in NUM.items():
        for i in range(number):
            path = tmp_path / "images" / split / ("dog" if i % 2 else "cat") / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            make_image(next(seeds)).save(path)
    return tmp_path / "images"


def run_guard(
    tree: Path, tmp_path: Path, generated: list[Image.Image], *overrides: str
) -> tuple[list[NearPair], list[Any]]:
    """Write the images as ``generated``, run both steps with the miniature CLIP, return pairs and counts."""
    recipe_path = tmp_path / "plain.yaml"
    recipe_path.write_text(
        f"name: plain\ndata:\n  benchmark: image_folder\n  root: {tree}\nmodels:\n  cards: {ROOT}/model_cards\n"
        "  vlm: miniature-qwen2.5-vl\n  llm: miniature-qwen3\n  t2i: miniature-sdxl\n  clip: miniature-vit\n"
        "  device: cpu\nleaks:\n  cosine: 0.99999\n  shard_size: 5\n  batch_size: 2\n"
    )
    recipe = load_recipe(recipe_path, overrides)
    run = RunDirectory(tmp_path / "run")
    facts = {"items": 1, "seconds": 0.0, "peak_mib": 0}
    rows = [GeneratedImage(encode_png(image), 1, "dog", i, f"text {i}", 0, 0) for i, image in enumerate(generated)]
    shards = [Images(f"images-{i:05d}", rows[2 * i : 2 * i + 2]) for i in range((len(rows) + 1) // 2)]
    run.write_chunk("generated", 0, [Lines("excluded", []), *shards], facts, numbered=False)
    run.write_manifest("generated", {}, 1, 0)
    for step in build_plan(recipe):
        if step.name.startswith("leaks/"):
            do_work(stage_class(step)(recipe, step, run, Progress(step.name)))
            run.write_manifest(step.name, {}, count_chunks(step, run), 0)
    counts = [count for of_chunk in run.values("leaks/compare", "counts") for count in of_chunk]
    return run.records("leaks/compare", "pairs", NearPair), counts


def test_what_was_planted_is_found_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    test_image = Image.open(tree / "test/dog/03.png")
    train_image = Image.open(tree / "train/cat/04.png")
    brighter = train_image.point([min(255, value + 3) for value in range(256)])
    train_image.save(tree / "test/cat/99.png")  # the benchmark's own overlap
    pairs, counts = run_guard(
        tree, tmp_path, [make_image(5000), test_image, make_image(5001), brighter, make_image(5002)]
    )
    found = {(p.group, p.image, p.other_group, p.other, p.equal) for p in pairs}
    assert found == {
        ("generated", "1_1_0", "test", "test/dog/03.png", True),
        ("generated", "1_3_0", "test", "test/cat/99.png", False),
        ("generated", "1_3_0", "train", "train/cat/04.png", False),
        ("train", "train/cat/04.png", "test", "test/cat/99.png", True),
    }
    changed = next(pair for pair in pairs if pair.other == "train/cat/04.png")
    assert changed.hash_distance <= 4 and changed.cosine is not None and changed.cosine > 0.9
    assert (changed.class_id, changed.other_class_id) == (1, 0)
    assert [(c["images"], c["among"], c["num_images"], c["num_among"]) for c in counts] == [
        ("generated", "test", 5, 10), ("generated", "train", 5, 12), ("train", "test", 12, 10),
    ]  # fmt: skip
    assert [(c["equal"], c["by_hash"], c["in_all"]) for c in counts] == [(1, 2, 2), (0, 1, 1), (1, 1, 1)]
    assert counts[0]["closest_hash_distance"] == 0 and counts[0]["closest_cosine"] == pytest.approx(1, abs=2e-3)


def test_embeddings_find_what_hashes_do_not(tree: Path, tmp_path: Path) -> None:
    # Bits of every hash differ in fewer than 33 at most; a cosine threshold of almost nothing makes every image near.
    pairs, counts = run_guard(tree, tmp_path, [make_image(5000)], "leaks.hash_distance=0", "leaks.cosine=0.01")
    assert [c["by_hash"] for c in counts] == [0, 0, 0]
    assert [c["by_embedding"] for c in counts] == [1, 1, 12]
    assert len(pairs) == 14


def test_a_sample_bounds_the_embeddings_and_not_the_hashes(tree: Path, tmp_path: Path) -> None:
    copy = Image.open(tree / "test/cat/00.png")
    pairs, counts = run_guard(tree, tmp_path, [copy], "leaks.max_embedded=3")
    assert [(c["num_embedded"], c["num_embedded_among"]) for c in counts] == [(1, 3), (1, 3), (3, 3)]
    assert [(p.other, p.equal) for p in pairs] == [("test/cat/00.png", True)]
    assert len(list((tmp_path / "run/leaks/originals").glob("train-*.safetensors"))) == 3  # 12 images, 5 a file


def test_no_generated_image_is_no_leak(tree: Path, tmp_path: Path) -> None:
    pairs, counts = run_guard(tree, tmp_path, [])
    assert pairs == []
    assert [c["num_images"] for c in counts] == [0, 0, 12]
    assert counts[0]["closest_hash_distance"] is None and counts[0]["closest_cosine"] is None
    json.dumps(counts, allow_nan=False)
