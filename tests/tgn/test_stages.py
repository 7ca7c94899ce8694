"""TGN's stages in order on the shipped images, judged by their files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ltgc_local.cli.text import figures_as_text
from ltgc_local.errors import ArtefactError
from ltgc_local.evaluation.metrics import f1_scores
from ltgc_local.methods.tgn.budget import Member
from ltgc_local.methods.tgn.classes import read_manifest
from ltgc_local.methods.tgn.kmdn import Peer
from ltgc_local.methods.tgn.network import load_network
from ltgc_local.methods.tgn.stages.train_networks import TrainClassifierStage
from ltgc_local.pipeline.preview import read_figures
from ltgc_local.recipe.tgn import Classifier
from ltgc_local.runs.arrays import read_table
from tests.tgn.conftest import TgnRun

TAIL = ("sneaker", "trousers", "bag", "sandal", "dress", "coat")  # in the order of their training images


def test_the_manifest_is_read_as_it_was_written(finished: TgnRun) -> None:
    manifest = read_manifest(finished.run)
    assert tuple(entry.class_name for entry in manifest.tail) == TAIL
    assert [entry.num_train for entry in manifest.head] == [1000, 599, 359, 215]


def test_each_network_has_its_sides_classes_and_remembers_its_training(finished: TgnRun) -> None:
    for side, num in (("head", 4), ("tail", 6)):
        network = load_network(finished.run.files(f"kmdn/{side}", "network")[0])
        assert network.backbone.facts["num_classes"] == num
        (epoch,) = [json.loads(line) for line in finished.run.files(f"kmdn/{side}", "history")[0].open()]
        assert epoch["network"] == side and 0 <= epoch["validation"]["macro_f1"] <= 100


def test_distillation_gives_both_networks_and_its_history_says_who_learnt(finished: TgnRun) -> None:
    history = [json.loads(line) for line in finished.run.files("kmdn/distill", "history")[0].open()]
    assert [epoch["network"] for epoch in history] == ["head", "tail"]
    assert all(epoch["losses"]["feature_loss"] > 0 for epoch in history)
    alone = load_file(finished.run.files("kmdn/tail", "network")[0])
    distilled = load_file(finished.run.files("kmdn/distill", "tail")[0])
    assert not torch.equal(alone["network.conv1.0.weight"], distilled["network.conv1.0.weight"])
    assert finished.stage("measure").tail_network.backbone.facts["num_classes"] == 6


def test_the_list_names_every_image_and_what_it_was_made_from(finished: TgnRun) -> None:
    members = finished.run.records("merge", "list", Member)
    train = finished.stage("merge").corpus.train
    label_of = dict(zip(train.keys, train.labels.tolist(), strict=True))
    originals = [m for m in members if m.origin == "original"]
    assert {m.key: m.class_id for m in originals} == label_of
    generated = [m for m in members if m.origin == "generated"]
    # up to 50 each: sneaker (129) and trousers (77) have them; bag lacks 4, sandal 22, dress 33, coat 40
    assert Counter(m.class_id for m in generated) == {8: 4, 5: 22, 3: 33, 4: 40}
    assert all(label_of[m.source] == m.class_id for m in generated)
    assert max(Counter(m.source for m in generated).values()) == 5  # of coat's 10 and dress's 17 images
    classes = {each["class_name"]: each for each in finished.run.value("merge", "classes")}
    assert (classes["coat"]["original"], classes["coat"]["generated"], classes["coat"]["sources"]) == (10, 40, 8)
    assert (classes["sneaker"]["generated"], classes["shirt"]["is_head"]) == (0, True)


def test_what_is_missing_of_the_budget_is_an_error(finished: TgnRun, monkeypatch: pytest.MonkeyPatch) -> None:
    larger = TgnRun(finished.recipe.model_copy(update={"merge": finished.recipe.merge.model_copy(
        update={"images": 60})}), finished.run)  # fmt: skip

    with pytest.raises(ArtefactError, match=r"not what the budget asks for \(bag 4 of 14"):
        larger.stage("merge").make()


@pytest.mark.parametrize("equal_steps", [False, True])
def test_the_arms_differ_in_their_images_alone(
    finished: TgnRun, monkeypatch: pytest.MonkeyPatch, equal_steps: bool
) -> None:
    trained: dict[str, tuple[Classifier, Peer]] = {}
    monkeypatch.setattr(
        TrainClassifierStage,
        "_train_alone",
        lambda stage, block, settings, peer: trained.update({stage.step.arm: (settings, peer)}),
    )
    settings = finished.recipe.classifier.model_copy(update={"equal_steps": equal_steps})
    run = TgnRun(finished.recipe.model_copy(update={"classifier": settings}), finished.run)
    for arm in ("tgn", "control"):
        run.stage(f"train/{arm}").make()
    (settings_of_tgn, tgn), (settings_of_control, control) = trained["tgn"], trained["control"]
    assert settings_of_tgn == settings_of_control == settings
    one, other = tgn.network.backbone.state_dict(), control.network.backbone.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert tgn.sampler == control.sampler == settings.sampler
    num = 2480
    assert len(control.images) == num
    assert (tgn.images.labels[:num] == control.images.labels).all()
    rows = np.arange(0, num, 100)
    assert torch.equal(tgn.images.gather(rows), control.images.gather(rows))
    assert Counter(tgn.images.labels[num:].tolist()) == {8: 4, 5: 22, 3: 33, 4: 40}
    # By their own number, or both by that of the larger arm.
    assert (tgn.epoch_size, control.epoch_size) == (num + 99, num + 99 if equal_steps else num)


def test_the_figures_are_those_of_the_stored_predictions(finished: TgnRun) -> None:
    metrics = finished.run.value("evaluate", "metrics")
    table = read_table(finished.run.files("evaluate", "predictions")[0])
    labels = table["label"]
    tail = np.isin(labels, [8, 5, 3, 4, 7, 1])
    assert list(metrics) == ["tgn", "control"] or set(metrics) == {"tgn", "control"}
    for arm, figures in metrics.items():
        predicted = table[f"{arm}.predicted"]
        correct = predicted == labels
        assert figures["all"] == pytest.approx(100 * correct.mean(), abs=1e-3)
        assert figures["tail"] == pytest.approx(100 * correct[tail].mean(), abs=1e-3)
        assert figures["head"] == pytest.approx(100 * correct[~tail].mean(), abs=1e-3)
        assert figures["macro_f1"] == f1_scores(predicted, labels)[0]
        low, high = figures["side_interval"]["tail"]
        assert low <= figures["tail"] <= high
    assert (
        set(metrics["tgn"]["side_minus_control"]) == {"head", "tail"} and not metrics["control"]["side_minus_control"]
    )
    assert metrics["tgn"]["minus_control"]["all"] is not None


def test_each_network_is_measured_alone_and_distilled_on_its_own_classes(finished: TgnRun) -> None:
    found = finished.run.value("evaluate", "networks")
    assert {side: set(trained) for side, trained in found.items()} == {
        "head": {"alone", "distilled"}, "tail": {"alone", "distilled"},
    }  # fmt: skip
    assert set(found["tail"]["alone"]["per_class"]) == {"1", "3", "4", "5", "7", "8"}
    assert 0 < found["head"]["alone"]["all"] <= 100


def test_the_measures_come_with_those_of_real_images(finished: TgnRun) -> None:
    found = finished.run.value("measure", "measures")
    assert [row["class_name"] for row in found["classes"]] == list(TAIL)
    coat = found["classes"][-1]
    assert (coat["real"]["images"], coat["generated"]["images"]) == (10, 20)
    assert found["classes"][0]["generated"]["images"] == 0 and found["classes"][0]["kernel_distance"] is None
    # The "generated" images are real here: nearly as diverse, and CLIP recognises most of them.
    assert 0.5 < coat["generated"]["diversity"] / coat["real"]["diversity"] < 2
    assert found["summary"]["features"] == "miniature-vit"
    assert abs(found["summary"]["kernel_distance"]) < 0.5
    assert found["summary"]["generated"]["clip_consistency"] > 30  # chance is 10


def test_the_report_shows_what_the_method_measures(finished: TgnRun) -> None:
    page = (finished.run.root / "report" / "report.html").read_text()
    assert "TGN − control" in page and "LTGC" not in page
    for words in ("Head, tail and mutual distillation", "Kernel distance", "distilled", "from train/", "Made from"):
        assert words in page
    assert not any(f'{attribute}="http' in page for attribute in ("src", "href"))
    summary = finished.run.value("report", "summary")
    assert set(summary["accuracy"]["tgn"]) == {"all", "head", "tail", "many", "medium", "few"}
    assert summary["groups"]["tail"] == {"classes": 6, "test_images": 6000}
    headline = summary["verdict"]["headline"]
    assert headline.startswith("Where TGN and its controls do equally well on head classes, TGN ")
    assert "of the tail images" in headline or "on tail images" in headline


def test_the_command_lines_table_has_head_and_tail(finished: TgnRun) -> None:
    lines = figures_as_text(read_figures(finished.run.root)).splitlines()
    assert lines[0].split()[-6:] == ["all", "head", "tail", "many", "medium", "few"]
    assert any(line.startswith("TGN ") for line in lines)


def test_equal_steps_give_the_control_as_many(start_run: Callable[..., TgnRun]) -> None:
    run = start_run("classifier.equal_steps=true", "merge.images=300")
    run.do("classes", "train/control")
    (epoch,) = [json.loads(line) for line in run.run.files("train/control", "history")[0].open()]
    assert epoch["epoch"] == 0
    # tail classes have 307 images: 6 * 300 - 307 = 1493 to generate
    assert run.stage("train/control").num_draws() == 2480 + 1493
