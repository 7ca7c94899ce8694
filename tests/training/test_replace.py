"""``train.mixing: replace`` and ``joint``: which images are swapped, what is mixed, and each part's own prior."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ltgc_local.methods.ltgc.arm_data import ArmData, Batch
from ltgc_local.recipe import Recipe
from tests.training.test_arm_data import GENERATED, MEAN_STD, ORIGINAL, arm_of, batches_of, tensors_of

MakeRecipe = Callable[..., Recipe]
LABELS = np.concatenate([ORIGINAL, GENERATED])
LONG = ("train.batch_size=4", "train.epochs=100")  # 800 images
SHARES = [5 / 8, 2 / 8, 1 / 8]  # of the originals


@pytest.mark.parametrize("sampler", ["instance", "balanced"])
def test_replace_swaps_images_of_the_controls_batches_within_their_class(make_recipe: MakeRecipe, sampler: str) -> None:
    recipe = make_recipe(*LONG, f"train.sampler={sampler}")
    control, replaced = batches_of(recipe, "none"), batches_of(recipe, "replace")
    assert len(control) == len(replaced) == 200
    for before, after in zip(control, replaced, strict=True):
        assert after.others is None
        assert LABELS[after.rows].tolist() == ORIGINAL[before.rows].tolist()  # p(y) is untouched, batch by batch
        kept = after.rows < 8
        assert after.rows[kept].tolist() == before.rows[kept].tolist()


def test_the_share_is_a_probability_per_image_of_a_class_that_has_generated_ones(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(*LONG, "train.mixing=replace", "train.sampler=instance", "train.replace_share=0.25")
    rows = np.concatenate([batch.rows for batch in batches_of(recipe, "replace")])
    counts = np.bincount(rows, minlength=12)
    assert counts[:5].tolist() == [100] * 5  # class 0 has no generated image
    # 300 images of classes 1 and 2, a quarter of them swapped: 75, standard deviation 7.5, four of them 30.
    assert abs(counts[8:].sum() - 75) < 30
    assert counts[8:].sum() + counts[5:8].sum() == 300
    assert np.ptp(counts[9:]) <= 1  # one after another, in shuffled order
    orders = rows[(rows > 8) & (LABELS[rows] == 2)]
    passes = [tuple(orders[at : at + 3]) for at in range(0, len(orders) - 2, 3)]
    assert all(set(one) == {9, 10, 11} for one in passes) and len(set(passes)) > 1


def test_a_share_of_one_leaves_no_original_that_could_be_swapped(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(*LONG, "train.mixing=replace", "train.sampler=instance", "train.replace_share=1")
    rows = np.concatenate([batch.rows for batch in batches_of(recipe, "replace")])
    assert set(rows.tolist()) == {0, 1, 2, 3, 4, 8, 9, 10, 11}


def test_with_instance_sampling_every_prior_is_the_originals_shares_and_so_are_the_targets(
    make_recipe: MakeRecipe,
) -> None:
    options = ("train.loss=logit_adjustment", "train.sampler=instance", "train.augment=none", *LONG)
    for prior in ("effective", "counts", "originals"):
        arm = arm_of(make_recipe(*options, f"train.prior={prior}"), "replace")
        assert arm.log_prior().exp().tolist() == pytest.approx(SHARES, rel=1e-6)
    targets = torch.cat([tensors_of(arm, batch)[1] for _, batch in arm.batches()])
    assert targets.mean(0).tolist() == SHARES  # exactly: each original is drawn 100 times, and swapped within its class


def test_joint_batches_are_replaced_images_and_then_pairs(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(*LONG, "train.sampler=instance")  # 3 of 4 images by replace
    batches = batches_of(recipe, "joint")
    first = np.concatenate([batch.rows[:3] for batch in batches])
    second = np.concatenate([batch.rows[3:] for batch in batches])
    others = np.concatenate([batch.others for batch in batches])
    assert np.bincount(LABELS[first]).tolist() == [375, 150, 75]  # 600 of 8 originals: 75 passes
    assert (first > 7).any() and second.max() < 8
    # 200 originals of balanced classes: 66.7 each, standard deviation 6.7, five of them 33.
    assert np.abs(np.bincount(ORIGINAL[second]) - 200 / 3).max() < 33
    assert np.bincount(others).tolist() == [0] * 8 + [50] * 4
    assert all(batch.lam.shape == (1,) for batch in batches)


def test_a_joint_batch_by_hand(make_recipe: MakeRecipe) -> None:
    # Row 9 (level 101, class 2) and row 0 (level 0, class 0) as they are; row 7 (level 7, class 2) with row 8 (100,
    # class 1) at lam 0.25: 0.25 * 7 + 0.75 * 100 = 76.75.
    arm = arm_of(make_recipe("train.augment=none"), "joint")
    images, targets = tensors_of(arm, Batch(np.array([9, 0, 7]), np.array([8]), np.array([0.25])))
    assert (images[:, 0, 0, 0] * 255).tolist() == pytest.approx([101, 0, 76.75], abs=1e-4)
    assert targets.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0.75, 0.25]]


# Of 4 images, 3 by replace. By hand: the originals' shares [5, 2, 1] / 8; BalanceMix [4, 7, 13] / 24, which is
# 1/2 * [1, 1, 1] / 3 + 1/2 * [0, 1, 3] / 4; all counts [5, 3, 4] / 12.
PAIRS, ALL = [4 / 24, 7 / 24, 13 / 24], [5 / 12, 3 / 12, 4 / 12]
JOINT_PRIORS = [
    (("sampler=instance",), SHARES, PAIRS),
    (("sampler=balanced",), [1 / 3] * 3, PAIRS),
    (("sampler=instance", "prior=originals"), SHARES, SHARES),
    (("sampler=instance", "prior=counts"), SHARES, ALL),
    (("sampler=instance", "mix_prior_scale=0"), SHARES, [1.0] * 3),
    (("sampler=instance", "prior_scale=0.5"), [s**0.5 for s in SHARES], [p**0.5 for p in PAIRS]),
    (("sampler=instance", "prior_scale=0.5", "mix_prior_scale=1"), [s**0.5 for s in SHARES], PAIRS),
]


@pytest.mark.parametrize(("options", "replaced", "mixed"), JOINT_PRIORS)
def test_each_part_of_a_joint_batch_has_its_own_prior(
    make_recipe: MakeRecipe, options: tuple[str, ...], replaced: list[float], mixed: list[float]
) -> None:
    given = ("train.mixing=joint", "train.loss=logit_adjustment", "train.batch_size=4", "train.epochs=2")
    arm = arm_of(make_recipe(*given, "train.real_epochs=1", *(f"train.{each}" for each in options)), "joint")
    log_priors = arm.log_prior(0)
    assert log_priors.shape == (4, 3)
    for row, expected in zip(log_priors.exp().tolist(), [replaced] * 3 + [mixed], strict=True):
        assert row == pytest.approx(expected, rel=1e-5)
    assert arm.log_prior(1).shape == (3,)  # originals only: one prior for all


def test_without_adjustment_no_part_of_a_joint_batch_has_a_prior(make_recipe: MakeRecipe) -> None:
    arm = arm_of(make_recipe("train.batch_size=4"), "joint")
    assert arm.log_prior().tolist() == [[0, 0, 0]] * 4


def _batch(arm: ArmData) -> Batch:
    """The first batch, whose first rows may be generated and whose last ones are pairs."""
    return next(arm.batches())[1]


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("form", ["scalar", "mask"])
@pytest.mark.parametrize("mixing", ["replace", "joint", "balance_mix"])
def test_processes_make_the_images_and_targets_that_one_makes(
    make_recipe: MakeRecipe, mixing: str, form: str, processes: int
) -> None:
    options = ("train.batch_size=12", "train.joint_share=0.6", "train.blur_px=1", "train.noise=0.1")
    recipe = make_recipe("train.mixing=joint", *options, f"train.mix_form={form}", "train.augment=flip_crop")
    images, targets = tensors_of(arm := arm_of(recipe, mixing), _batch(arm))  # 7 by replace and 5 pairs
    for rank in range(processes):
        mine = slice(rank, None, processes)
        arm = arm_of(recipe, mixing)
        part = arm.tensors(_batch(arm), arm.gather(_batch(arm), mine), *MEAN_STD, mine)
        assert torch.allclose(part[0], images[mine], atol=1e-6)
        assert torch.allclose(part[1], targets[mine])
