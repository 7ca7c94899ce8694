"""Evaluate with the miniature CLIP on the shipped test images: answers, views, ensembles, and figures from them."""

from __future__ import annotations

import json
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
from ltgc_local.evaluation.tilt import log_counts
from ltgc_local.methods.ltgc.stages.train import build_classifier
from ltgc_local.methods.stage import ChunkedStage, Stage, WholeStage
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.runs.arrays import read_table
from ltgc_local.runs.files import Artefact, Tensors
from ltgc_local.runs.schemas import Rivals
from ltgc_local.training.lora import adapter_state
from ltgc_local.training.tta import combine
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
        fewer = replace(fewer, val=Part(corpus.val, np.arange(0, len(corpus.val), 20)))
        if "evaluate.zero_shot_weight=0.5" in overrides:  # which predicts training images too
            fewer = replace(fewer, train=Part(corpus.train, np.arange(0, len(corpus.train), 10)))
        steps = [step.name for step in build_plan(stage.recipe)]
        clip = make_stage(next(name for name in steps if name.startswith("train/")), *options).model
        classifier = build_classifier(clip, clip.visual, corpus.class_names, stage.recipe)
        for name in (name for name in steps if name.startswith("train/")):
            head = classifier.head.weight.detach().clone()
            head[:5] *= -1 if "ltgc" in name else 1  # ltgc never finds the first five classes: the figures differ
            head[5:] *= -1 if name.endswith("_2") else 1  # and no second tower the others
            write_step(stage.run, name, Tensors("adapter", adapter_state(classifier.tower) | {"head.weight": head}))
        for name in (name for name in steps if name.startswith(("predict/", "validate/", "weigh/"))):
            predicting = rebuilt(make_stage(name, *options), fewer)
            if isinstance(predicting, WholeStage):
                write_step(stage.run, name, *predicting.make())
                continue
            assert isinstance(predicting, ChunkedStage)
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
    assert set(found) == {"metrics", "classes", "predictions", "rivals"}
    assert list(metrics) == ["control", "ltgc"]
    assert not {"five_crop", "zero_shot_ensemble"} & metrics["ltgc"].keys()


ENSEMBLE = ("ensemble.towers=2", "ensemble.mixing=union", "ensemble.lose_on_many_at_most=null")


def test_an_ensemble_predicts_what_its_towers_say_together(evaluate: Evaluation, tmp_path: Path) -> None:
    stage, found = evaluate(*ENSEMBLE, "evaluate.store_logits=true", "ensemble.tilt=true")
    metrics = found["metrics"].value  # type: ignore[attr-defined]
    assert list(metrics) == ["zero_shot", "control_1", "control_2", "control", "ltgc_1", "ltgc_2", "ltgc"]
    chosen = metrics["control"]["chosen"]
    assert chosen == stage.run.value("weigh/control", "weights")
    found["logits"].write(tmp_path / "l.safetensors")
    logits = {name: tensor.float() for name, tensor in load_file(tmp_path / "l.safetensors").items()}
    log_n = log_counts(stage.corpus.class_counts())
    together = combine([logits["control_1"], logits["control_2"]], chosen["weights"], chosen["tau"], log_n)
    assert torch.allclose(logits["control"], together, atol=0.05)  # of half precision
    found["predictions"].write(tmp_path / "p.parquet")
    table = read_table(tmp_path / "p.parquet")
    assert (together.argmax(1).numpy() == table["control.predicted"]).mean() > 0.97
    # The towers were made to know no class that the other knows, and validation images show it.
    assert chosen["validation"]["all"] >= max(metrics["control"]["chosen"]["validation"]["all"], 1)
    assert 0 < chosen["weights"][0] <= 1


def test_rivals_are_compared_by_curves_and_at_the_tau_that_validation_chose(evaluate: Evaluation) -> None:
    stage, found = evaluate(*ENSEMBLE)
    rivals = found["rivals"].value  # type: ignore[attr-defined]
    checked = Rivals.model_validate_json(json.dumps(rivals))  # what the report reads
    assert checked.sides is not None
    assert (checked.sides.rare, checked.sides.frequent) == ("few", "many")
    assert list(rivals["versus"]) == ["zero_shot", "control_1", "control_2", "control"]
    metrics = found["metrics"].value  # type: ignore[attr-defined]
    plain = rivals["taus"].index(0.0)
    for arm, curve in rivals["curves"].items():
        assert curve["all"][plain] == pytest.approx(metrics[arm]["all"], abs=1e-3)
        assert curve["few"][plain] == pytest.approx(metrics[arm]["few"], abs=1e-3)
    # Ltgc's towers find no class of the first five, which the control does find.
    assert rivals["versus"]["control"]["curve"] is None or rivals["versus"]["control"]["curve"]["points"] <= 0
    assert stage.run.files("validate/ltgc", "tilted")


def test_the_weights_keep_to_the_controls_accuracy_on_many(evaluate: Evaluation) -> None:
    stage, _ = evaluate("ensemble.towers=2", "ensemble.mixing=union", "ensemble.lose_on_many_at_most=0.0")
    control, ltgc = (stage.run.value(f"weigh/{side}", "weights") for side in ("control", "ltgc"))
    kept = ltgc["validation"]["many"] >= control["validation"]["many"]
    assert kept == ltgc["within_limit"]


def test_zero_shot_answers_are_clips_own_whatever_the_batch(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage("predict/zero_shot")
    clip, test, rows = stage.model, stage.corpus.test, range(0, 9000, 100)
    texts = clip.encode_texts([f"a photo of a {name}." for name in stage.corpus.class_names])
    expected = clip.logit_scale * clip.encode_images(test.images(rows)) @ texts.T
    classifier = build_classifier(clip, clip.visual, stage.corpus.class_names, stage.recipe)
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
