"""What each arm draws, how it mixes it, and the prior that its loss is told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ltgc_local.methods.ltgc.arm_data import ArmData, Batch
from ltgc_local.recipe import Recipe
from ltgc_local.training.images import ImageSet

MakeRecipe = Callable[..., Recipe]
# Eight originals of three classes, 5 / 2 / 1; four generated of classes 1 and 2, 1 / 3: rows 8 to 11.
ORIGINAL = np.array([0, 0, 0, 0, 0, 1, 1, 2])
GENERATED = np.array([1, 2, 2, 2])
NONE = np.array([], dtype=np.int64)
SMALL = ("train.batch_size=4", "train.epochs=3")
MEAN_STD = (torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))


def image_set(labels: np.ndarray, first: int = 0, size: int = 4) -> ImageSet:
    """Flat images whose grey level is their row, from ``first`` on."""
    levels = torch.arange(first, first + len(labels), dtype=torch.uint8)
    return ImageSet((levels.view(-1, 1, 1, 1).repeat(1, 3, size, size),), labels)


def arm_of(recipe: Recipe, mixing: str = "balance_mix", generated: np.ndarray = GENERATED, seed: int = 0) -> ArmData:
    return ArmData(recipe.train, mixing, image_set(ORIGINAL), image_set(generated, 100), 3, seed)


def tensors_of(arm: ArmData, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return arm.tensors(batch, arm.gather(batch), *MEAN_STD)


def batches_of(recipe: Recipe, mixing: str = "balance_mix") -> list[Batch]:
    return [batch for _, batch in arm_of(recipe, mixing).batches()]


def test_an_epoch_is_as_many_pairs_as_there_are_originals_for_every_arm(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("train.batch_size=3", "train.epochs=2")
    for mixing in ("balance_mix", "mixup", "union", "replace", "joint", "none"):
        epochs = [epoch for epoch, _ in arm_of(recipe, mixing).batches()]
        assert epochs == [0, 0, 0, 1, 1, 1]  # ceil(8 / 3) steps


def test_balance_mix_pairs_an_original_with_a_generated_image(make_recipe: MakeRecipe) -> None:
    batches = batches_of(make_recipe("train.batch_size=4", "train.epochs=100"))
    originals = np.concatenate([batch.rows for batch in batches])
    generated = np.concatenate([batch.others for batch in batches])
    lam = np.concatenate([batch.lam for batch in batches])
    # 800 pairs: 267 of each class, standard deviation 13.3, five of them 67; each of four generated 200 times exactly.
    assert np.abs(np.bincount(ORIGINAL[originals]) - 800 / 3).max() < 67
    assert np.bincount(generated).tolist() == [0] * 8 + [200] * 4
    # Beta(1, 1): mean 1/2, standard deviation sqrt(1/12/800) = 0.0102.
    assert abs(lam.mean() - 0.5) < 0.051 and lam.min() >= 0 and lam.max() <= 1


@pytest.mark.parametrize(("alpha", "beta", "mean"), [(9, 1, 0.9), (1, 3, 0.25), (2, None, 0.5)])
def test_an_asymmetric_beta_sets_the_originals_share(
    make_recipe: MakeRecipe, alpha: int, beta: int | None, mean: float
) -> None:
    given = () if beta is None else (f"train.mix_beta={beta}",)
    recipe = make_recipe("train.batch_size=4", "train.epochs=100", f"train.mix_alpha={alpha}", *given)
    lam = np.concatenate([batch.lam for batch in batches_of(recipe)])
    variance = alpha * (beta or alpha) / ((alpha + (beta or alpha)) ** 2 * (alpha + (beta or alpha) + 1))
    assert abs(lam.mean() - mean) < 5 * (variance / 800) ** 0.5
    assert lam.var() == pytest.approx(variance, rel=0.25)


def test_the_union_draws_from_both_and_the_control_from_originals(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("train.batch_size=4", "train.epochs=6", "train.sampler=instance")
    union = np.concatenate([batch.rows for batch in batches_of(recipe, "union")])
    assert np.bincount(union).tolist() == [4] * 12  # 48 draws of 12 images, each once a pass
    control = np.concatenate([batch.rows for batch in batches_of(recipe, "none")])
    assert np.bincount(control).tolist() == [6] * 8
    assert all(batch.others is None for batch in batches_of(recipe, "union"))


def test_mixup_pairs_images_of_the_union_drawn_alike(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("train.batch_size=4", "train.epochs=6", "train.sampler=instance")
    batches = batches_of(recipe, "mixup")
    drawn = np.concatenate([np.concatenate([batch.rows, batch.others]) for batch in batches])
    assert np.bincount(drawn).tolist() == [8] * 12  # 96 draws of 12 images, each once a pass
    assert all(batch.lam.shape == (4,) for batch in batches)
    balanced = batches_of(make_recipe("train.batch_size=4", "train.epochs=100"), "mixup")
    labels = np.concatenate([ORIGINAL, GENERATED])
    for part in ("rows", "others"):
        classes = labels[np.concatenate([getattr(batch, part) for batch in balanced])]
        assert np.abs(np.bincount(classes) - 800 / 3).max() < 67  # as above


@pytest.mark.parametrize("mixing", ["balance_mix", "mixup", "union", "replace", "joint"])
@pytest.mark.parametrize("sampler", ["balanced", "instance"])
def test_the_last_real_epochs_see_originals_only(make_recipe: MakeRecipe, mixing: str, sampler: str) -> None:
    recipe = make_recipe("train.batch_size=4", "train.epochs=5", "train.real_epochs=3", f"train.sampler={sampler}")
    for epoch, batch in arm_of(recipe, mixing).batches():
        if epoch >= 2:
            assert batch.others is None
            assert batch.rows.max() < 8


def test_without_generated_images_there_is_nothing_to_mix(make_recipe: MakeRecipe) -> None:
    arm = arm_of(make_recipe(*SMALL), generated=NONE)
    assert arm.mixing == "none"
    assert all(batch.others is None for _, batch in arm.batches())


@pytest.mark.parametrize("mixing", ["balance_mix", "replace", "joint"])
def test_the_same_seed_draws_the_same_rows_however_often_it_is_asked(make_recipe: MakeRecipe, mixing: str) -> None:
    recipe = make_recipe(*SMALL)
    arm = arm_of(recipe, mixing, seed=3)
    one, again = ([batch.rows.tolist() for _, batch in arm.batches()] for _ in range(2))
    same, other = ([b.rows.tolist() for _, b in arm_of(recipe, mixing, seed=seed).batches()] for seed in (3, 4))
    assert one == again == same
    assert one != other


def test_a_mixed_batch_by_hand(make_recipe: MakeRecipe) -> None:
    # Rows 0 (level 0, class 0) and 7 (level 7, class 2) with rows 8 (100, class 1) and 9 (101, class 2), lam 0.5 and
    # 0.25: levels 50 and 0.25 * 7 + 0.75 * 101 = 77.5, of 255; then minus mean 0.1, over std 0.5.
    arm = arm_of(make_recipe("train.augment=none"))
    batch = Batch(np.array([0, 7]), np.array([8, 9]), np.array([0.5, 0.25]))
    mean, std = torch.full((1, 3, 1, 1), 0.1), torch.full((1, 3, 1, 1), 0.5)
    images, targets = arm.tensors(batch, arm.gather(batch), mean, std)
    assert images.shape == (2, 3, 4, 4)
    expected = [(50 / 255 - 0.1) / 0.5, (77.5 / 255 - 0.1) / 0.5]
    assert images[:, 0, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert targets.tolist() == [[0.5, 0.5, 0], [0, 0, 1]]


def test_a_masked_batch_by_hand(make_recipe: MakeRecipe) -> None:
    # lam 0.75 of 4 x 4 pixels: four pixels of level 100 in twelve of level 0, and the label 3/4 of class 0.
    arm = arm_of(make_recipe("train.augment=none", "train.mix_form=mask"))
    images, targets = tensors_of(arm, Batch(np.array([0]), np.array([8]), np.array([0.75])))
    assert sorted((images[0, 0] * 255).flatten().round().tolist()) == [0] * 12 + [100] * 4
    assert targets.tolist() == [[0.75, 0.25, 0]]


def test_a_batch_of_both_sets_is_in_its_order(make_recipe: MakeRecipe) -> None:
    arm = arm_of(make_recipe("train.augment=none"), "union")
    images, targets = tensors_of(arm, Batch(np.array([9, 3, 8, 7])))
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [101, 3, 100, 7]
    assert targets.argmax(1).tolist() == [2, 0, 1, 2]


# By hand: balanced [1, 1, 1] / 3, D_o's [5, 2, 1] / 8, D_g's [0, 1, 3] / 4, both together [5, 3, 4] / 12.
PRIORS = [
    ("balance_mix", ("sampler=balanced",), [1 / 6, 1 / 6 + 1 / 8, 1 / 6 + 3 / 8]),
    ("balance_mix", ("mix_alpha=3", "mix_beta=1"), [1 / 4, 1 / 4 + 1 / 16, 1 / 4 + 3 / 16]),
    ("balance_mix", ("prior=counts",), [5 / 12, 3 / 12, 4 / 12]),
    ("none", ("sampler=balanced",), [1 / 3, 1 / 3, 1 / 3]),
    ("none", ("sampler=instance",), [5 / 8, 2 / 8, 1 / 8]),
    ("none", ("sampler=balanced", "prior=counts"), [5 / 8, 2 / 8, 1 / 8]),
    ("union", ("sampler=balanced",), [1 / 3, 1 / 3, 1 / 3]),
    ("union", ("sampler=instance",), [5 / 12, 3 / 12, 4 / 12]),
    ("mixup", ("sampler=balanced",), [1 / 3, 1 / 3, 1 / 3]),
    ("mixup", ("sampler=instance",), [5 / 12, 3 / 12, 4 / 12]),
    ("replace", ("sampler=instance",), [5 / 8, 2 / 8, 1 / 8]),
    ("replace", ("sampler=balanced",), [1 / 3, 1 / 3, 1 / 3]),
    ("replace", ("sampler=balanced", "prior=counts"), [5 / 8, 2 / 8, 1 / 8]),
    *(
        (mixing, (f"sampler={sampler}", "prior=originals"), [5 / 8, 2 / 8, 1 / 8])
        for mixing in ("balance_mix", "mixup", "union", "replace", "none")
        for sampler in ("balanced", "instance")
    ),
]


@pytest.mark.parametrize(("mixing", "options", "expected"), PRIORS)
def test_the_prior_is_what_the_arm_samples_from_or_its_counts(
    make_recipe: MakeRecipe, mixing: str, options: tuple[str, ...], expected: list[float]
) -> None:
    recipe = make_recipe("train.loss=logit_adjustment", *(f"train.{option}" for option in options), *SMALL)
    log_prior = arm_of(recipe, mixing).log_prior()
    assert log_prior.exp().tolist() == pytest.approx(expected, rel=1e-5)
    assert arm_of(make_recipe(), mixing).log_prior().tolist() == [0, 0, 0]


def test_the_effective_prior_is_the_mean_target_of_the_batches(make_recipe: MakeRecipe) -> None:
    options = ("train.mix_alpha=3", "train.mix_beta=1", "train.loss=logit_adjustment", "train.augment=none")
    for form in ("scalar", "mask"):
        arm = arm_of(make_recipe(*options, f"train.mix_form={form}", "train.batch_size=40", "train.epochs=400"))
        targets = torch.cat([tensors_of(arm, batch)[1] for _, batch in arm.batches()])  # 16,000
        log_prior = arm.log_prior()
        # A target's standard deviation is below 1/2: five of the mean's are 5 * 0.5 / sqrt(16000) = 0.02.
        assert targets.mean(0).tolist() == pytest.approx(log_prior.exp().tolist(), abs=0.02)


def test_balanced_softmax_has_the_counts_prior(make_recipe: MakeRecipe) -> None:
    for mixing in ("none", "union", "balance_mix"):
        softmax = arm_of(make_recipe("train.loss=balanced_softmax"), mixing).log_prior()
        counts = arm_of(make_recipe("train.loss=logit_adjustment", "train.prior=counts"), mixing).log_prior()
        assert torch.equal(softmax, counts)


def test_epochs_on_originals_only_have_the_originals_prior(make_recipe: MakeRecipe) -> None:
    settings = ("train.loss=logit_adjustment", "train.sampler=instance", "train.real_epochs=1", *SMALL)
    for mixing in ("balance_mix", "union", "mixup", "joint"):
        arm = arm_of(make_recipe(*settings), mixing)
        mixed, real = arm.log_prior(1), arm.log_prior(2)
        assert real.exp().tolist() == pytest.approx([5 / 8, 2 / 8, 1 / 8], rel=1e-5)
        assert not torch.allclose(mixed, real, atol=0.01)


def test_a_class_without_images_leaves_the_loss_a_number(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("train.loss=logit_adjustment", "train.sampler=instance", "train.augment=none")
    arm = ArmData(recipe.train, "none", image_set(ORIGINAL), image_set(NONE), 5, 0)
    _, targets = tensors_of(arm, Batch(np.array([0, 7])))
    assert targets.shape == (2, 5)  # as many as the head has classes, not as there are labels
    assert torch.isfinite(F.cross_entropy(arm.log_prior().expand(2, -1), targets))


def test_both_images_of_a_pair_are_gathered(make_recipe: MakeRecipe) -> None:
    levels = np.concatenate([np.arange(8), np.arange(100, 104)])  # the grey level of each row
    arm = arm_of(make_recipe(*SMALL))
    for _, batch in arm.batches():
        one, other = arm.gather(batch)
        assert np.array_equal(one[:, 0, 0, 0].numpy(), levels[batch.rows])
        assert np.array_equal(other[:, 0, 0, 0].numpy(), levels[batch.others])
