"""The loop: which rows each arm draws, the prior it is told, the learning rate, and one small training for real."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ltgc_local.backends.open_clip_vit import OpenClipVit
from ltgc_local.recipe import Recipe
from ltgc_local.training.classifier import Classifier, CosineHead, soft_cross_entropy
from ltgc_local.training.loop import Batch, ImageSet, Trainer, _lr_factor, train
from ltgc_local.training.lora import adapter_state, add_lora

MakeRecipe = Callable[..., Recipe]
# Eight originals of three classes, 5 / 2 / 1; four generated of classes 1 and 2, 1 / 3.
ORIGINAL = np.array([0, 0, 0, 0, 0, 1, 1, 2])
GENERATED = np.array([1, 2, 2, 2])
SMALL = ("train.batch_size=4", "train.epochs=3")
MEAN_STD = (torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))


def image_set(labels: np.ndarray, first: int = 0, size: int = 4) -> ImageSet:
    """Flat images whose grey level is their row, from ``first`` on."""
    levels = torch.arange(first, first + len(labels), dtype=torch.uint8)
    return ImageSet(levels.view(-1, 1, 1, 1).repeat(1, 3, size, size), labels)


def trainer_of(
    recipe: Recipe, mixing: str = "balance_mix", generated: np.ndarray = GENERATED, seed: int = 0
) -> Trainer:
    return Trainer(recipe, mixing, image_set(ORIGINAL), image_set(generated, 100), 3, seed)


def test_an_epoch_is_as_many_pairs_as_there_are_originals_for_every_arm(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("train.batch_size=3", "train.epochs=2")
    for mixing in ("balance_mix", "union", "none"):
        epochs = [epoch for epoch, _ in trainer_of(recipe, mixing).batches()]
        assert epochs == [0, 0, 0, 1, 1, 1]  # ceil(8 / 3) steps


def test_balance_mix_pairs_an_original_with_a_generated_image(make_recipe: MakeRecipe) -> None:
    batches = [batch for _, batch in trainer_of(make_recipe("train.batch_size=4", "train.epochs=100")).batches()]
    originals = np.concatenate([batch.original for batch in batches])
    generated = np.concatenate([batch.generated for batch in batches])
    lam = np.concatenate([batch.lam for batch in batches])
    # 800 pairs: 267 of each class, standard deviation 13.3, five of them 67; each of four generated 200 times exactly.
    assert np.abs(np.bincount(ORIGINAL[originals]) - 800 / 3).max() < 67
    assert np.bincount(generated).tolist() == [200] * 4
    # Beta(1, 1): mean 1/2, standard deviation sqrt(1/12/800) = 0.0102.
    assert abs(lam.mean() - 0.5) < 0.051 and lam.min() >= 0 and lam.max() <= 1


def test_the_union_draws_from_both_and_the_control_from_originals(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("train.batch_size=4", "train.epochs=6", "train.sampler=instance")
    union = np.concatenate([batch.original for _, batch in trainer_of(recipe, "union").batches()])
    assert np.bincount(union).tolist() == [4] * 12  # 48 draws of 12 images, each once a pass
    control = np.concatenate([batch.original for _, batch in trainer_of(recipe, "none").batches()])
    assert np.bincount(control).tolist() == [6] * 8
    assert all(batch.generated is None for _, batch in trainer_of(recipe, "union").batches())


@pytest.mark.parametrize("mixing", ["balance_mix", "union"])
@pytest.mark.parametrize("sampler", ["balanced", "instance"])
def test_the_last_real_epochs_see_originals_only(make_recipe: MakeRecipe, mixing: str, sampler: str) -> None:
    recipe = make_recipe("train.batch_size=4", "train.epochs=5", "train.real_epochs=3", f"train.sampler={sampler}")
    for epoch, batch in trainer_of(recipe, mixing).batches():
        if epoch >= 2:
            assert batch.generated is None
            assert batch.original.max() < 8


def test_without_generated_images_there_is_nothing_to_mix(make_recipe: MakeRecipe) -> None:
    trainer = trainer_of(make_recipe(*SMALL), generated=np.array([], dtype=np.int64))
    assert trainer.mixing == "none"
    assert all(batch.generated is None for _, batch in trainer.batches())


def test_the_same_seed_draws_the_same_rows(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(*SMALL)
    one, same, other = (
        [batch.original.tolist() for _, batch in trainer_of(recipe, seed=seed).batches()] for seed in (3, 3, 4)
    )
    assert one == same
    assert one != other


def test_a_mixed_batch_by_hand(make_recipe: MakeRecipe) -> None:
    # Rows 0 (level 0, class 0) and 7 (level 7, class 2) with generated rows 0 (100, class 1) and 1 (101, class 2), lam
    # 0.5 and 0.25: levels 50 and 0.25 * 7 + 0.75 * 101 = 77.5, of 255; then minus mean 0.1, over std 0.5.
    trainer = trainer_of(make_recipe("train.augment=none"))
    batch = Batch(np.array([0, 7]), np.array([0, 1]), np.array([0.5, 0.25]))
    mean, std = torch.full((1, 3, 1, 1), 0.1), torch.full((1, 3, 1, 1), 0.5)
    images, targets = trainer.tensors(batch, mean, std)
    assert images.shape == (2, 3, 4, 4)
    expected = [(50 / 255 - 0.1) / 0.5, (77.5 / 255 - 0.1) / 0.5]
    assert images[:, 0, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert targets.tolist() == [[0.5, 0.5, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("mixing", "sampler", "expected"),
    [
        # 0.5/3 + 0.5 * [0, 1, 3] / 4
        ("balance_mix", "balanced", [1 / 6, 1 / 6 + 1 / 8, 1 / 6 + 3 / 8]),
        ("none", "balanced", [1 / 3, 1 / 3, 1 / 3]),
        ("none", "instance", [5 / 8, 2 / 8, 1 / 8]),
        ("union", "balanced", [1 / 3, 1 / 3, 1 / 3]),
        ("union", "instance", [5 / 12, 3 / 12, 4 / 12]),
    ],
)
def test_the_prior_is_what_the_arm_samples_from(
    make_recipe: MakeRecipe, mixing: str, sampler: str, expected: list[float]
) -> None:
    recipe = make_recipe("train.loss=logit_adjustment", f"train.sampler={sampler}", *SMALL)
    log_prior = trainer_of(recipe, mixing).log_prior()
    assert log_prior is not None
    assert log_prior.exp().tolist() == pytest.approx(expected, rel=1e-5)
    assert trainer_of(make_recipe(), mixing).log_prior() is None


def test_epochs_on_originals_only_have_the_originals_prior(make_recipe: MakeRecipe) -> None:
    settings = ("train.loss=logit_adjustment", "train.sampler=instance", "train.real_epochs=1", *SMALL)
    for mixing in ("balance_mix", "union"):
        trainer = trainer_of(make_recipe(*settings), mixing)
        mixed, real = trainer.log_prior(1), trainer.log_prior(2)
        assert mixed is not None and real is not None
        assert real.exp().tolist() == pytest.approx([5 / 8, 2 / 8, 1 / 8], rel=1e-5)
        assert not torch.allclose(mixed, real, atol=0.01)


def test_a_class_without_images_leaves_the_loss_a_number(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("train.loss=logit_adjustment", "train.sampler=instance", "train.augment=none")
    trainer = Trainer(recipe, "none", image_set(ORIGINAL), image_set(np.array([], dtype=np.int64)), 5, 0)
    _, targets = trainer.tensors(Batch(np.array([0, 7])), *MEAN_STD)
    assert targets.shape == (2, 5)  # as many as the head has classes, not as there are labels
    assert torch.isfinite(soft_cross_entropy(torch.zeros(2, 5), targets, trainer.log_prior()))


def test_the_learning_rate_rises_linearly_and_falls_by_half_a_cosine() -> None:
    # 2 steps of warm-up of 6: 1/2, 1; then (1 + cos(pi * [0, 1/4, 2/4, 3/4])) / 2.
    found = [_lr_factor(step, 2, 6) for step in range(7)]
    assert found == pytest.approx([0.5, 1, 1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)
    assert _lr_factor(0, 0, 10) == 1
    assert _lr_factor(0, 5, 5) == pytest.approx(0.2)


@pytest.mark.parametrize(("optimizer", "head"), [("sgd", "text"), ("adamw", "frozen_text")])
def test_a_small_training_learns_and_is_the_same_again(
    load_clip: Callable[[], OpenClipVit], make_recipe: MakeRecipe, optimizer: str, head: str
) -> None:
    recipe = make_recipe(
        "train.batch_size=8", "train.epochs=6", "train.lora_rank=4", f"train.optimizer={optimizer}",
        f"train.head={head}", "train.lr=0.01", "train.real_epochs=1", "train.loss=logit_adjustment",
    )  # fmt: skip

    def once() -> tuple[list[float], dict[str, torch.Tensor], list[dict[str, float | None]]]:
        torch.manual_seed(0)
        noise = torch.randint(0, 60, (16, 3, 28, 28), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
        labels = np.arange(16) % 2
        pixels = noise + torch.from_numpy(labels * 150).to(torch.uint8).view(-1, 1, 1, 1)  # dark and light
        images = ImageSet(pixels, labels)
        texts = torch.randn(2, 96, generator=torch.Generator().manual_seed(6))
        classifier = Classifier(add_lora(load_clip().visual, recipe), CosineHead(texts, 25, trainable=head == "text"))
        seen: list[int] = []
        history = train(
            Trainer(recipe, "balance_mix", images, images, 2, 0), classifier, MEAN_STD, "cpu",
            lambda model: {"all": float(not model.training)}, seen.append,
        )  # fmt: skip
        assert seen == [8] * 12  # 2 steps an epoch
        assert [epoch.epoch for epoch in history] == list(range(6))
        return [epoch.loss for epoch in history], adapter_state(classifier.tower), [e.validation for e in history]

    losses, adapters, validation = once()
    assert losses[-1] < losses[0] / 2
    assert validation == [{"all": 1.0}] * 6  # measured in evaluation mode
    losses_again, adapters_again, _ = once()
    assert losses_again == losses
    assert all(torch.equal(adapters[name], adapters_again[name]) for name in adapters)
