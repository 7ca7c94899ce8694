"""Evaluate with the miniature CLIP on the shipped test images: answers, views, ensembles, and figures from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ltgc_local.datasets import Corpus
from ltgc_local.evaluation.predictions import Predictions, build_views, iterate_logits
from ltgc_local.methods.ltgc.stages.train import build_classifier
from ltgc_local.methods.stage import Stage
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.runs.arrays import read_table
from ltgc_local.runs.files import Artefact, Tensors
from ltgc_local.training.lora import adapter_state
from tests.stages.rebuilt import rebuilt

FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a split."""

    whole: Any
    rows: np.ndarray

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.whole.labels[self.rows])

    @property
    def keys(self) -> list[str]:
        return [self.whole.keys[row] for row in self.rows]

    def images(self, rows: Any) -> Any:
        return self.whole.images(self.rows[np.asarray(list(rows))])


Evaluation = Callable[..., tuple[Stage, dict[str, Artefact]]]


@pytest.fixture
def evaluate(make_stage: Callable[..., Stage], write_step: Callable[..., None]) -> Evaluation:
    """A function (*options) -> the stage of evaluate on 90 test images with two arms, and its files by kind.

    The arms differ by their heads, and the images are predicted in three chunks.
    """

    def run(*overrides: str) -> tuple[Stage, dict[str, Artefact]]:
        options = (*overrides, "evaluate.shard_size=40")
        stage = make_stage("evaluate", *options)
        corpus: Corpus = stage.corpus
        fewer = replace(corpus, test=Part(corpus.test, np.arange(0, 9000, 100)))
        fewer = replace(fewer, train=Part(corpus.train, np.arange(0, len(corpus.train), 10)))
        classifier = build_classifier(make_stage("predict/ltgc", *options).model, corpus.class_names, stage.recipe)
        for arm, shift in (("control", 0.0), ("ltgc", 0.5)):
            head = classifier.head.weight.detach().clone()
            head[:5] *= -1 if shift else 1  # ltgc never finds the first five classes: the figures differ
            write_step(
                stage.run, f"train/{arm}", Tensors("adapter", adapter_state(classifier.tower) | {"head.weight": head})
            )
        for name in [step.name for step in build_plan(stage.recipe) if step.name.startswith("predict")]:
            predicting = rebuilt(make_stage(name, *options), fewer)
            chunks = predicting.chunks()
            for number, chunk in enumerate(chunks):
                stage.run.write_chunk(name, number, predicting.make_chunk(chunk), FACTS)
            stage.run.write_manifest(name, {}, len(chunks), 0.0)
        measuring = rebuilt(stage, fewer)
        return measuring, by_kind(measuring.make())

    return run


def by_kind(artefacts: list[Artefact]) -> dict[str, Artefact]:
    return {artefact.kind: artefact for artefact in artefacts}


def test_figures_and_predictions_say_the_same_and_ensembles_stand_inside_their_arm(
    evaluate: Evaluation, tmp_path: Path
) -> None:
    stage, found = evaluate("evaluate.five_crop=true", "evaluate.zero_shot_weight=0.5", "evaluate.store_logits=true")
    metrics = found["metrics"].value  # type: ignore[attr-defined]
    assert list(metrics) == ["zero_shot", "control", "ltgc"]
    assert {"five_crop", "zero_shot_ensemble", "five_crop+zero_shot_ensemble"} <= metrics["ltgc"].keys()
    assert "zero_shot_ensemble" not in metrics["zero_shot"] and "minus_control" in metrics["ltgc"]
    path = tmp_path / "p.parquet"
    found["predictions"].write(path)
    table = read_table(path)
    assert list(table["key"]) == list(stage.corpus.test.keys)
    for name in ("control", "ltgc", "ltgc.five_crop"):
        arm, _, variant = name.partition(".")
        figures = metrics[arm][variant] if variant else metrics[arm]
        right = table[f"{name}.predicted"] == table["label"]
        assert figures["all"] == pytest.approx(100 * right.mean(), abs=1e-3)
        assert (table[f"{name}.confidence"] > 0.05).all()
    control, ltgc = (table[f"{arm}.predicted"] == table["label"] for arm in ("control", "ltgc"))
    low, high = metrics["ltgc"]["minus_control"]["all"]
    assert low <= 100 * (ltgc.mean() - control.mean()) <= high < 0
    logits_file = tmp_path / "l.safetensors"
    found["logits"].write(logits_file)
    logits = load_file(logits_file)
    assert logits["ltgc"].shape == (90, 10) and logits["ltgc"].dtype == torch.float16
    agrees = logits["control"].float().argmax(1).numpy() == table["control.predicted"]
    assert agrees.mean() > 0.97  # but for ties of half precision
    assert [c["num_train"] for c in found["classes"].value] == list(stage.corpus.class_counts().values())  # type: ignore[attr-defined]


def test_what_is_not_asked_for_is_not_there(evaluate: Evaluation) -> None:
    _, found = evaluate("evaluate.zero_shot=false")
    metrics = found["metrics"].value  # type: ignore[attr-defined]
    assert set(found) == {"metrics", "classes", "predictions"}
    assert list(metrics) == ["control", "ltgc"]
    assert not {"five_crop", "zero_shot_ensemble"} & metrics["ltgc"].keys()


def test_zero_shot_answers_are_clips_own_whatever_the_batch(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage("predict/zero_shot")
    clip, test, rows = stage.model, stage.corpus.test, range(0, 9000, 100)
    texts = clip.encode_texts([f"a photo of a {name}." for name in stage.corpus.class_names])
    expected = clip.logit_scale * clip.encode_images(test.images(rows)) @ texts.T
    classifier = build_classifier(clip, stage.corpus.class_names, stage.recipe)
    classifier.head.scale = clip.logit_scale
    views = build_views(clip, stage.recipe)
    for batch_size in (90, 32):
        parts = iterate_logits(clip, test, rows, {"zero_shot": classifier.eval()}, views, batch_size, 2)
        found = torch.cat([logits["zero_shot", ""] for _, logits in parts])
        assert torch.allclose(found, expected, atol=1e-3)


def test_predictions_are_the_likeliest_class_and_its_probability() -> None:
    predictions = Predictions(3)
    predictions.add("a", slice(1, 3), torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log())
    assert predictions.predicted["a"].tolist() == [-1, 0, 1]
    assert predictions.confidence["a"].tolist() == pytest.approx([0.0, 0.9, 0.8])
