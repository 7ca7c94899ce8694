"""One network's training and two networks' mutual distillation: who learns, from what, and from a checkpoint on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ltgc_local.errors import BackendError, DataError
from ltgc_local.methods.tgn.class_data import LabelledImages
from ltgc_local.methods.tgn.kmdn.distillation import list_lessons
from ltgc_local.methods.tgn.kmdn.fitting import Fitting, Learner, Lesson, lr_factor
from ltgc_local.methods.tgn.network import build_network
from ltgc_local.recipe.schema import Kmdn

SMALL = {"architecture": "test_resnet", "size_px": 16, "augment": "flip", "select": "last", "checkpoint_minutes": 0.0}


def settings(**changes: object) -> Kmdn:
    return Kmdn(**(SMALL | changes))  # type: ignore[arg-type]


def learner(name: str, asked: Kmdn, num_classes: int = 3, num: int = 20, scores: tuple[float, ...] = ()) -> Learner:
    """A random network with random images; ``scores`` are its validations, one an epoch."""
    seed = len(name)
    torch.manual_seed(seed)
    network = build_network(asked, num_classes, "layer3", None)
    pixels = torch.randint(256, (num, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    left = list(scores)
    images = LabelledImages((pixels,), np.arange(num, dtype=np.int64) % num_classes)
    return Learner(name, network, images, lambda model: {"all": 0.0, "macro_f1": left.pop(0) if left else 0.0})


def weights_of(one: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in one.network.backbone.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_released_schedule_is_tail_to_head_for_fifty_epochs_then_head_to_tail() -> None:
    lessons = list_lessons(Kmdn())
    assert len(lessons) == 100
    assert {(lesson.student, lesson.teacher) for lesson in lessons[:50]} == {(0, 1)}
    assert {(lesson.student, lesson.teacher) for lesson in lessons[50:]} == {(1, 0)}


def test_two_hundred_epochs_alternate_again_and_the_head_may_teach_first() -> None:
    lessons = list_lessons(Kmdn(distill_epochs=200, first_teacher="head"))
    assert [lessons[epoch].student for epoch in (0, 49, 50, 100, 150, 199)] == [1, 1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("schedule", "epoch", "factor"),
    # global: the tail student, from epoch 50, starts at a tenth: 1e-4 (50-60), 1e-5 (61-90), 1e-6 (91-99)
    [("global", 0, 1), ("global", 30, 1), ("global", 31, 0.1), ("global", 50, 0.1), ("global", 60, 0.1),
     ("global", 61, 0.01), ("global", 90, 0.01), ("global", 91, 0.001), ("per_phase", 50, 1), ("per_phase", 80, 1),
     ("per_phase", 81, 0.1)],
)  # fmt: skip
def test_the_learning_rate_drops_after_epoch_thirty_of_its_schedule(schedule: str, epoch: int, factor: float) -> None:
    asked = Kmdn(lr_schedule=schedule)  # type: ignore[arg-type]
    assert lr_factor(list_lessons(asked)[epoch].schedule_epoch, asked) == pytest.approx(factor)


def test_a_step_is_adam_on_class_loss_and_weighted_feature_loss_by_hand() -> None:
    asked = settings(augment="none")
    student, teacher = learner("head", asked), learner("tail", asked, num_classes=4)
    before = weights_of(student)
    fitting = Fitting([student, teacher], [Lesson(0, 1, 0)], asked, 20, 0, "cpu", feature_weight=0.2)
    (epoch,) = fitting.run(lambda images: None)
    twin = learner("head", asked)
    assert same(weights_of(twin), before)
    rows = next(iter(student.images.batches(20, fitting._seed_of(student), 0)))
    images = student.images.take(rows).float() / 255 * 2 - 1
    logits, maps = twin.network.backbone.train()(images)
    with torch.no_grad():
        taught = teacher.network.backbone.eval()(images)[1]
    class_loss = F.cross_entropy(logits, torch.from_numpy(student.images.targets[rows]))
    feature_loss = ((maps - taught) ** 2).mean()
    by_hand = float(class_loss.detach()), float(feature_loss.detach())
    optimizer = torch.optim.Adam(twin.network.backbone.parameters(), 1e-3, weight_decay=1e-4)
    (class_loss + 0.2 * feature_loss).backward()
    optimizer.step()
    assert (epoch.class_loss, epoch.feature_loss) == pytest.approx(by_hand, rel=1e-5)
    assert epoch.loss == pytest.approx(by_hand[0] + 0.2 * by_hand[1], rel=1e-5)
    found, expected = weights_of(student), weights_of(twin)
    # Adam's first step is lr times the gradient's sign, which of a gradient of nearly 0 is chance.
    close = torch.cat([torch.isclose(found[name], expected[name], atol=1e-5).flatten() for name in found])
    assert float(close.float().mean()) > 0.98
    assert not same(found, before)


def test_gradients_and_statistics_reach_only_the_student() -> None:
    asked = settings()
    pair = [learner("head", asked), learner("tail", asked)]
    before = [weights_of(one) for one in pair]
    Fitting(pair, [Lesson(0, 1, 0)], asked, 10, 0, "cpu", feature_weight=5.0).run(lambda images: None)
    assert same(weights_of(pair[1]), before[1])
    assert all(parameter.grad is None for parameter in pair[1].network.backbone.parameters())
    assert not same(weights_of(pair[0]), before[0])


def test_the_students_maps_move_towards_the_teachers() -> None:
    asked = settings(lr=3e-3)
    runs = {}
    for weight in (0.0, 20.0):
        pair = [learner("head", asked), learner("tail", asked)]
        lessons = [Lesson(0, 1, 0) for _ in range(8)]
        Fitting(pair, lessons, asked, 10, 0, "cpu", feature_weight=weight).run(lambda images: None)
        images = pair[0].images.take(np.arange(20)).float() / 255 * 2 - 1
        with torch.no_grad():
            maps = [one.network.backbone.eval().maps(images) for one in pair]
        runs[weight] = float(F.mse_loss(*maps))
    assert runs[20.0] < 0.7 * runs[0.0]


def test_the_selected_epoch_teaches_and_is_kept() -> None:
    asked = settings(select="best_val_macro_f1")
    head, tail = learner("head", asked, scores=(50.0, 80.0, 60.0)), learner("tail", asked, scores=(10.0, 5.0))
    kept: list[dict[str, torch.Tensor]] = []
    score = head.validate

    def note(model: torch.nn.Module) -> dict[str, float | None]:
        kept.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return score(model)

    head.validate = note
    lessons = [Lesson(0, 1, e) for e in range(3)] + [Lesson(1, 0, e) for e in range(2)]
    Fitting([head, tail], lessons, asked, 10, 0, "cpu", feature_weight=0.2).run(lambda images: None)
    assert (head.epoch, tail.epoch) == (1, 3)
    assert same(weights_of(head), kept[1]) and not same(kept[1], kept[2])


@pytest.mark.parametrize("stop_at", [1, 3, 4, 6, 9])
def test_a_killed_training_goes_on_from_its_checkpoint_exactly(tmp_path: Path, stop_at: int) -> None:
    asked = settings(select="best_val_macro_f1", lr_drop_epochs=1)

    def start(path: Path) -> tuple[list[Learner], Fitting]:
        pair = [learner("head", asked, scores=(1.0, 2.0)), learner("tail", asked, scores=(2.0, 1.0))]
        lessons = [Lesson(0, 1, e) for e in range(2)] + [Lesson(1, 0, e) for e in range(2)]
        return pair, Fitting(pair, lessons, asked, 8, 0, "cpu", 0.2, path)  # 3 steps an epoch: 20 images by 8

    whole, fitting = start(tmp_path / "whole.safetensors")
    expected = fitting.run(lambda images: None)
    steps: list[int] = []

    def kill(images: int) -> None:
        steps.append(images)
        if len(steps) == stop_at:
            raise KeyboardInterrupt

    path = tmp_path / "killed.safetensors"
    killed, fitting = start(path)
    with pytest.raises(KeyboardInterrupt):
        fitting.run(kill)
    resumed, fitting = start(path)
    # What the first process has validated is not validated again.
    for one, first in zip(resumed, killed, strict=True):
        one.validate = first.validate
    found = fitting.run(lambda images: steps.append(images))
    assert len(steps) == 12 + 1  # the step that was killed before its checkpoint is done again
    assert [(e.loss, e.validation, e.lr) for e in found] == [(e.loss, e.validation, e.lr) for e in expected]
    for one, other in zip(resumed, whole, strict=True):
        assert same(weights_of(one), weights_of(other)) and one.epoch == other.epoch


def test_a_loss_that_is_no_number_is_said() -> None:
    asked = settings()
    one = learner("head", asked)
    with torch.no_grad():
        next(one.network.backbone.parameters()).fill_(float("nan"))
    with pytest.raises(BackendError, match="head network: the loss is nan in step 0 of epoch 0"):
        Fitting([one], [Lesson(0, None, 0)], asked, 10, 0, "cpu").run(lambda images: None)


def test_choosing_an_epoch_without_validation_images_is_an_error() -> None:
    asked = settings(select="best_val_all")
    one = learner("tail", asked)
    one.validate = lambda model: {}
    with pytest.raises(DataError, match="tail network: select is best_val_all, but there is no validation image"):
        Fitting([one], [Lesson(0, None, 0)], asked, 10, 0, "cpu").run(lambda images: None)


def test_batches_use_every_image_once_or_as_often_as_is_asked() -> None:
    pixels, targets = torch.zeros(10, 3, 4, 4, dtype=torch.uint8), np.array([0] * 8 + [1] * 2)
    once = LabelledImages((pixels,), targets)
    rows = np.concatenate(list(once.batches(4, 0, 0)))
    assert sorted(rows.tolist()) == list(range(10)) and not np.array_equal(rows, np.arange(10))
    assert once.num_batches(3) == 3  # the last batch would be one image
    longer = LabelledImages((pixels,), targets, draws=25)
    counts = np.bincount(np.concatenate(list(longer.batches(5, 0, 0))), minlength=10)
    assert counts.sum() == 25 and set(counts.tolist()) == {2, 3}
    balanced = LabelledImages((pixels,), targets, draws=2000, balanced=True)
    drawn = np.concatenate(list(balanced.batches(500, 0, 0)))
    assert 0.45 < (targets[drawn] == 1).mean() < 0.55


def test_images_of_several_sets_are_taken_by_row() -> None:
    one = torch.full((3, 3, 2, 2), 1, dtype=torch.uint8)
    other = torch.full((2, 3, 2, 2), 2, dtype=torch.uint8)
    images = LabelledImages((one, torch.empty(0, 3, 1, 1, dtype=torch.uint8), other), np.zeros(5, dtype=np.int64))
    assert images.take(np.array([4, 0, 3, 2]))[:, 0, 0, 0].tolist() == [2, 1, 2, 1]
