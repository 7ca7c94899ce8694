"""One network's training and two networks' mutual distillation: who learns, from what, and exact resumption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ltgc_local.errors import BackendError, DataError
from ltgc_local.methods.tgn.kmdn import (
    DistillEpoch,
    Peer,
    PeerTraining,
    Validate,
    list_epochs,
    lr_drop,
)
from ltgc_local.methods.tgn.network import build_network
from ltgc_local.recipe.tgn import Kmdn
from ltgc_local.training.images import ImageSet
from ltgc_local.training.trainer import Trainer

SMALL = {"architecture": "test_resnet", "size_px": 16, "augment": "flip", "select": "last", "checkpoint_minutes": 0.0}


def settings(**changes: object) -> Kmdn:
    return Kmdn(**(SMALL | changes))  # type: ignore[arg-type]


def peer(
    name: str, asked: Kmdn, num_classes: int = 3, scores: tuple[float, ...] = (), validate: Validate | None = None
) -> Peer:
    """A random network with twenty random images; ``scores`` are its validations, one per epoch."""
    seed, num = len(name), 20
    torch.manual_seed(seed)
    network = build_network(asked, num_classes, "layer3", None)
    pixels = torch.randint(256, (num, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    left = list(scores)
    images = ImageSet((pixels,), np.arange(num, dtype=np.int64) % num_classes)
    scored = validate or (lambda model: {"all": 0.0, "macro_f1": left.pop(0) if left else 0.0})
    return Peer(name, network, images, scored)


def training_of(
    peers: list[Peer], epochs: list[DistillEpoch], asked: Kmdn, size: int = 10, weight: float = 0.0
) -> PeerTraining:
    return PeerTraining("kmdn", asked, peers, epochs, size, 0, "cpu", weight)


def weights_of(one: Peer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in one.network.backbone.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_released_schedule_is_tail_to_head_for_fifty_epochs_then_head_to_tail() -> None:
    epochs = list_epochs(Kmdn())
    assert len(epochs) == 100
    assert {(epoch.student, epoch.teacher) for epoch in epochs[:50]} == {(0, 1)}
    assert {(epoch.student, epoch.teacher) for epoch in epochs[50:]} == {(1, 0)}


def test_two_hundred_epochs_alternate_again_and_the_head_may_teach_first() -> None:
    epochs = list_epochs(Kmdn(distill_epochs=200, first_teacher="head"))
    assert [epochs[epoch].student for epoch in (0, 49, 50, 100, 150, 199)] == [1, 1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("schedule", "epoch", "factor"),
    # global: the tail student, from epoch 50, starts at a tenth: 1e-4 (50-60), 1e-5 (61-90), 1e-6 (91-99)
    [("global", 0, 1), ("global", 30, 1), ("global", 31, 0.1), ("global", 50, 0.1), ("global", 60, 0.1),
     ("global", 61, 0.01), ("global", 90, 0.01), ("global", 91, 0.001), ("per_phase", 50, 1), ("per_phase", 80, 1),
     ("per_phase", 81, 0.1)],
)  # fmt: skip
def test_the_learning_rate_drops_after_epoch_thirty_of_its_schedule(schedule: str, epoch: int, factor: float) -> None:
    asked = Kmdn(lr_schedule=schedule)  # type: ignore[arg-type]
    assert lr_drop(list_epochs(asked)[epoch].schedule_epoch, asked) == pytest.approx(factor)


def test_a_step_is_adam_on_class_loss_and_weighted_feature_loss_by_hand() -> None:
    asked = settings(augment="none")
    student, teacher = peer("head", asked), peer("tail", asked, num_classes=4)
    before = weights_of(student)
    training = training_of([student, teacher], [DistillEpoch(0, 1, 0)], asked, 20, 0.2)
    (epoch,) = Trainer(training).run()
    twin = peer("head", asked)
    assert same(weights_of(twin), before)
    _, _, rows = next(training.draws())
    images = student.images.gather(rows).float() / 255 * 2 - 1
    logits, maps = twin.network.backbone.train()(images)
    with torch.no_grad():
        taught = teacher.network.backbone.eval()(images)[1]
    class_loss = F.cross_entropy(logits, torch.from_numpy(student.images.labels[rows]))
    feature_loss = ((maps - taught) ** 2).mean()
    by_hand = float(class_loss.detach()), float(feature_loss.detach())
    optimizer = torch.optim.Adam(twin.network.backbone.parameters(), 1e-3, weight_decay=1e-4)
    (class_loss + 0.2 * feature_loss).backward()
    optimizer.step()
    assert (epoch.losses["class_loss"], epoch.losses["feature_loss"]) == pytest.approx(by_hand, rel=1e-5)
    assert epoch.losses["loss"] == pytest.approx(by_hand[0] + 0.2 * by_hand[1], rel=1e-5)
    found, expected = weights_of(student), weights_of(twin)
    # Adam's first step is lr times the gradient's sign, which of a gradient of nearly 0 is chance.
    close = torch.cat([torch.isclose(found[name], expected[name], atol=1e-5).flatten() for name in found])
    assert float(close.float().mean()) > 0.98
    assert not same(found, before)


def test_gradients_and_statistics_reach_only_the_student() -> None:
    asked = settings()
    pair = [peer("head", asked), peer("tail", asked)]
    before = [weights_of(one) for one in pair]
    Trainer(training_of(pair, [DistillEpoch(0, 1, 0)], asked, weight=5.0)).run()
    assert same(weights_of(pair[1]), before[1])
    assert all(parameter.grad is None for parameter in pair[1].network.backbone.parameters())
    assert not same(weights_of(pair[0]), before[0])


def test_the_students_maps_move_towards_the_teachers() -> None:
    asked = settings(lr=3e-3)
    runs = {}
    for weight in (0.0, 20.0):
        pair = [peer("head", asked), peer("tail", asked)]
        Trainer(training_of(pair, [DistillEpoch(0, 1, 0)] * 8, asked, weight=weight)).run()
        images = pair[0].images.gather(np.arange(20)).float() / 255 * 2 - 1
        with torch.no_grad():
            maps = [one.network.backbone.eval().maps(images) for one in pair]
        runs[weight] = float(F.mse_loss(*maps))
    assert runs[20.0] < 0.7 * runs[0.0]


def test_the_selected_epoch_teaches_and_is_kept() -> None:
    asked = settings(select="best_val_macro_f1")
    kept: list[dict[str, torch.Tensor]] = []
    scores = [50.0, 80.0, 60.0]

    def note(model: torch.nn.Module) -> dict[str, float | None]:
        kept.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"macro_f1": scores[len(kept) - 1]}

    head, tail = peer("head", asked, validate=note), peer("tail", asked, scores=(10.0, 5.0))
    epochs = [DistillEpoch(0, 1, e) for e in range(3)] + [DistillEpoch(1, 0, e) for e in range(2)]
    training = training_of([head, tail], epochs, asked, weight=0.2)
    history = Trainer(training).run()
    assert [epoch.network for epoch in history] == ["head"] * 3 + ["tail"] * 2
    assert [selection.epoch for selection in training.selections] == [1, 3]
    assert same(weights_of(head), kept[1]) and not same(kept[1], kept[2])


@pytest.mark.parametrize("stop_at", [1, 3, 4, 6, 9])
def test_a_killed_training_resumes_exactly_from_its_checkpoint(tmp_path: Path, stop_at: int) -> None:
    asked = settings(select="best_val_macro_f1", lr_drop_epochs=1)
    brightness = torch.full((1, 3, 16, 16), 0.5)

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        return {"macro_f1": float(model(brightness)[0][0, 0].detach())}  # differs with the weights, not in order

    def start(path: Path, **hooks: Any) -> tuple[PeerTraining, Trainer]:
        pair = [peer("head", asked, validate=validate), peer("tail", asked, validate=validate)]
        epochs = [DistillEpoch(0, 1, e) for e in range(2)] + [DistillEpoch(1, 0, e) for e in range(2)]
        training = training_of(pair, epochs, asked, 8, 0.2)  # 3 steps per epoch: 20 images by 8
        return training, Trainer(training, path, **hooks)

    whole, trainer = start(tmp_path / "whole.safetensors")
    expected = trainer.run()
    steps: list[int] = []

    def kill(images: int) -> None:
        steps.append(images)
        if len(steps) == stop_at + 2:  # in the step after the checkpoint of step ``stop_at``
            raise KeyboardInterrupt

    path = tmp_path / "killed.safetensors"
    with pytest.raises(KeyboardInterrupt):
        start(path, on_step=kill)[1].run()
    done: list[int] = []
    resumed, trainer = start(path, on_step=done.append)
    found = trainer.run()
    assert done == [8 * stop_at] + [8] * (12 - stop_at)
    assert [(e.losses, e.validation, e.lr) for e in found] == [(e.losses, e.validation, e.lr) for e in expected]
    for one, other in zip(resumed._peers, whole._peers, strict=True):
        assert same(weights_of(one), weights_of(other))
    assert [s.epoch for s in resumed.selections] == [s.epoch for s in whole.selections]


def test_a_loss_that_is_not_finite_says_what_to_type() -> None:
    asked = settings()
    one = peer("head", asked)
    with torch.no_grad():
        next(one.network.backbone.parameters()).fill_(float("nan"))
    with pytest.raises(BackendError, match=r"kmdn: loss is nan in step 0 \(epoch 0\); type --set kmdn\.lr=0\.0001"):
        Trainer(training_of([one], [DistillEpoch(0, None, 0)], asked)).run()


def test_choosing_an_epoch_without_validation_images_is_an_error() -> None:
    asked = settings(select="best_val_all")
    training = training_of([peer("tail", asked, validate=lambda model: {})], [DistillEpoch(0, None, 0)], asked)
    with pytest.raises(DataError, match=r"kmdn: select is best_val_all, .* type --set kmdn\.select=last"):
        Trainer(training).run()


def test_an_epoch_has_every_image_once_or_as_often_as_is_asked() -> None:
    one = peer("tail", settings())
    assert sorted(one.order(0, 0).tolist()) == list(range(20)) and one.order(0, 0).tolist() != one.order(0, 1).tolist()
    longer = replace(one, draws=50)
    assert set(np.bincount(longer.order(0, 0)).tolist()) == {2, 3}
    balanced = replace(one, draws=300, sampler="balanced", images=ImageSet(one.images.parts, np.array([0] * 19 + [1])))
    *common, rare = np.bincount(balanced.order(0, 0)).tolist()
    assert abs(rare - 150) < 43  # standard deviation sqrt(300 / 4) = 8.7: five of them
    assert max(common) - min(common) <= 1  # each image of a class equally often


def test_a_last_batch_too_small_for_batch_norm_is_left_out() -> None:
    one = peer("tail", settings())
    assert one.num_batches(8) == 3  # 8, 8, 4
    assert one.num_batches(19) == 1  # the last batch would be one image
    assert one.num_batches(8, processes=3) == 2  # and of 4 images one process would have one
    assert one.num_batches(64) == 1
