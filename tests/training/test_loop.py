"""The loop on the shipped miniature: it learns, repeats itself, goes on from a checkpoint, and keeps what it should."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.errors import ArtefactError, BackendError
from ltgc_local.recipe import Recipe
from ltgc_local.records import EpochMetrics
from ltgc_local.training.arm_data import ArmData, ImageSet
from ltgc_local.training.classifier import Classifier, CosineHead
from ltgc_local.training.loop import Trained, Training, Validate
from ltgc_local.training.lora import add_lora
from ltgc_local.training.optimization import trained_parameters

MakeRecipe = Callable[..., Recipe]
LoadClip = Callable[[], OpenClipVit]
MEAN_STD = (torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
SMALL = ("train.batch_size=8", "train.epochs=3", "train.lora_rank=4", "train.lr=0.01")
STEPS = 6  # 2 an epoch


class Killed(Exception):
    """What stops a training between two steps."""


def dark_and_light() -> ImageSet:
    noise = torch.randint(0, 60, (16, 3, 28, 28), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    labels = np.arange(16) % 2
    return ImageSet(noise + torch.from_numpy(labels * 150).to(torch.uint8).view(-1, 1, 1, 1), labels)


def training_of(
    clip: OpenClipVit, recipe: Recipe, validate: Validate | None = None, checkpoint: Path | None = None
) -> tuple[Training, Classifier]:
    torch.manual_seed(0)
    texts = torch.randn(2, 96, generator=torch.Generator().manual_seed(6))
    head = CosineHead(texts, 25, trainable=recipe.train.head == "text")
    classifier = Classifier(add_lora(clip.visual, recipe, clip.lora_targets), head)
    images = dark_and_light()
    data = ArmData(recipe, "balance_mix", images, images, 2, 0)
    return Training(data, classifier, MEAN_STD, "cpu", validate or (lambda _: {"all": 0.0}), checkpoint), classifier


def weights_of(classifier: Classifier) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trained_parameters(classifier).items()}


def run(clip: OpenClipVit, recipe: Recipe, **others: object) -> tuple[Trained, dict[str, torch.Tensor]]:
    training, classifier = training_of(clip, recipe, **others)  # type: ignore[arg-type]
    return training.run(lambda _: None), weights_of(classifier)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("optimizer", "head"), [("sgd", "text"), ("adamw", "frozen_text")])
def test_a_small_training_learns_and_is_the_same_again(
    load_clip: LoadClip, make_recipe: MakeRecipe, optimizer: str, head: str
) -> None:
    recipe = make_recipe(
        *SMALL, "train.epochs=6", f"train.optimizer={optimizer}", f"train.head={head}", "train.real_epochs=1",
        "train.loss=logit_adjustment",
    )  # fmt: skip

    def once() -> tuple[list[EpochMetrics], dict[str, torch.Tensor]]:
        seen: list[int] = []
        training, classifier = training_of(load_clip(), recipe, lambda model: {"all": float(not model.training)})
        history = training.run(seen.append).history
        assert seen == [0] + [8] * 12  # 2 steps an epoch, none done before
        assert [epoch.epoch for epoch in history] == list(range(6))
        return history, weights_of(classifier)

    history, weights = once()
    assert history[-1].loss < history[0].loss / 2
    assert [epoch.validation for epoch in history] == [{"all": 1.0}] * 6  # measured in evaluation mode
    again, weights_again = once()
    assert [epoch.loss for epoch in again] == [epoch.loss for epoch in history]
    assert same(weights, weights_again)


ALL_STATE = (
    *SMALL, "train.optimizer=adamw", "train.lora_dropout=0.3", "train.ema=0.8", "train.noise=0.1",
    "train.warmup_steps=2", "train.augment=flip_crop", "train.checkpoint_minutes=0", "train.select=best_val_all",
)  # fmt: skip


@pytest.mark.parametrize("killed_after", [1, 2, 3, 5])
@pytest.mark.parametrize("settings", [ALL_STATE, (*SMALL, "train.checkpoint_minutes=0")])
def test_a_killed_training_goes_on_as_if_it_had_not_been(
    load_clip: LoadClip, make_recipe: MakeRecipe, tmp_path: Path, settings: tuple[str, ...], killed_after: int
) -> None:
    recipe = make_recipe(*settings)
    brightness = dark_and_light().pixels[:1].float() / 255

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        return {"all": float(model(brightness)[0, 0].detach())}  # differs with the weights, and not in order

    whole, weights = run(load_clip(), recipe, validate=validate)
    path = tmp_path / "step" / "checkpoint.safetensors"
    steps: list[int] = []

    def stop(images: int) -> None:
        steps.append(images)
        if len(steps) == killed_after + 2:  # in the step after the checkpoint of step ``killed_after``
            raise Killed

    with pytest.raises(Killed):
        training_of(load_clip(), recipe, validate, path)[0].run(stop)
    torch.manual_seed(99)
    training, classifier = training_of(load_clip(), recipe, validate, path)
    assert training.step == killed_after
    done: list[int] = []
    resumed = training.run(done.append)
    assert done == [8 * killed_after] + [8] * (STEPS - killed_after)
    assert same(weights_of(classifier), weights)
    assert resumed.epoch == whole.epoch
    facts = [(e.epoch, e.loss, e.lr, e.validation) for e in resumed.history]
    assert facts == [(e.epoch, e.loss, e.lr, e.validation) for e in whole.history]


def test_a_training_that_ended_is_not_done_again(load_clip: LoadClip, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe, path = make_recipe(*SMALL, "train.checkpoint_minutes=0"), tmp_path / "checkpoint.safetensors"
    _, weights = run(load_clip(), recipe, checkpoint=path)
    training, classifier = training_of(load_clip(), recipe, checkpoint=path)
    assert training.step == STEPS
    assert len(training.run(lambda _: None).history) == 3
    assert same(weights_of(classifier), weights)


def test_checkpoints_come_after_the_minutes_that_were_asked_for(
    load_clip: LoadClip, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    run(load_clip(), make_recipe(*SMALL, "train.checkpoint_minutes=100"), checkpoint=path)
    assert not path.exists()
    run(load_clip(), make_recipe(*SMALL, "train.checkpoint_minutes=0"), checkpoint=path)
    assert path.exists()


def test_a_damaged_checkpoint_says_what_to_type(load_clip: LoadClip, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(ArtefactError, match=f"damaged checkpoint .* type: rm {path}"):
        training_of(load_clip(), make_recipe(*SMALL), checkpoint=path)


def test_a_batch_in_parts_is_the_same_step(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    # 8 pairs in 3 parts, of 3, 3 and 2: a part counts by its number of pairs.
    whole, weights = run(load_clip(), make_recipe(*SMALL))
    parts, weights_of_parts = run(load_clip(), make_recipe(*SMALL, "train.accumulation_steps=3"))
    assert [e.loss for e in parts.history] == pytest.approx([e.loss for e in whole.history], rel=1e-4)
    assert all(torch.allclose(weights[name], weights_of_parts[name], atol=1e-4) for name in weights)
    one, _ = run(load_clip(), make_recipe(*SMALL, "train.batch_size=3"))
    assert [e.loss for e in one.history] != pytest.approx([e.loss for e in whole.history], rel=1e-2)


def test_the_moving_average_is_what_is_validated_and_kept(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(*SMALL, "train.ema=0.75")
    training, classifier = training_of(load_clip(), make_recipe(*SMALL))
    expected = weights_of(classifier)
    steps: list[int] = []

    def average(images: int) -> None:  # by hand: 3/4 of the average and 1/4 of the weights after each step
        steps.append(images)
        for name, weight in weights_of(classifier).items() if len(steps) > 1 else ():
            expected[name] = 0.75 * expected[name] + 0.25 * weight

    training.run(average)
    last = weights_of(classifier)
    validated: list[dict[str, torch.Tensor]] = []

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        assert isinstance(model, Classifier)
        validated.append(weights_of(model))
        return {"all": 0.0}

    _, kept = run(load_clip(), recipe, validate=validate)
    assert same(kept, validated[-1])
    assert all(torch.allclose(kept[name], expected[name], atol=1e-5) for name in kept)
    assert not all(torch.allclose(kept[name], last[name], atol=1e-4) for name in kept)


@pytest.mark.parametrize(
    ("select", "validation", "epoch"),
    [
        ("last", [{"all": 9, "few": 9}, {"all": 1, "few": 1}, {"all": 2, "few": 2}], 2),
        ("best_val_all", [{"all": 1, "few": 9}, {"all": 5, "few": 1}, {"all": 5, "few": 2}], 1),  # the first of two
        ("best_val_few", [{"all": 1, "few": 9}, {"all": 5, "few": 1}, {"all": 5, "few": 2}], 0),
        # Means (8 + 0) / 2, (2 + 9) / 2, (6 + 4) / 2: no class is medium.
        ("best_val_groups", [{"all": 9, "many": m, "medium": None, "few": f} for m, f in ((8, 0), (2, 9), (6, 4))], 1),
    ],
)
def test_the_epoch_that_is_selected_is_kept(
    load_clip: LoadClip, make_recipe: MakeRecipe, select: str, validation: list[dict[str, float]], epoch: int
) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        seen.append(copy.deepcopy(weights_of(model)))  # type: ignore[arg-type]
        return dict(validation[len(seen) - 1])

    trained, kept = run(load_clip(), make_recipe(*SMALL, f"train.select={select}"), validate=validate)
    assert trained.epoch == epoch
    assert same(kept, seen[epoch])
    assert sum(same(kept, weights) for weights in seen) == 1


def test_the_last_epochs_train_the_head_alone(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        seen.append(weights_of(model))  # type: ignore[arg-type]
        return {"all": 0.0}

    options = ("train.epochs=3", "train.real_epochs=1", "train.last_layer_epochs=1", "train.optimizer=adamw")
    run(load_clip(), make_recipe(*SMALL, *options), validate=validate)
    first, second, third = seen
    changed = [{name for name in a if not torch.equal(a[name], b[name])} for a, b in ((first, second), (second, third))]
    assert len(changed[0]) == len(first)
    assert changed[1] == {"head.weight"}


def test_a_loss_that_is_no_number_stops_the_training(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    training, classifier = training_of(load_clip(), make_recipe(*SMALL))
    with torch.no_grad():
        classifier.head.weight.fill_(float("nan"))
    with pytest.raises(BackendError, match=r"the loss is nan in step 0 \(epoch 0\); type --set train\.lr=0\.001"):
        training.run(lambda _: None)


@pytest.mark.parametrize("checkpoint_minutes", [0, 100])
def test_losses_are_read_before_anything_is_kept_of_them(
    load_clip: LoadClip, make_recipe: MakeRecipe, tmp_path: Path, checkpoint_minutes: int
) -> None:
    # The third step's loss (step 2, the first of epoch 1) is no number; it is read at a checkpoint or the epoch's end.
    path, seen = tmp_path / "checkpoint.safetensors", []
    recipe = make_recipe(*SMALL, f"train.checkpoint_minutes={checkpoint_minutes}")
    training, classifier = training_of(load_clip(), recipe, lambda _: seen.append(1) or {"all": 0.0}, path)
    steps: list[int] = []

    def break_it(images: int) -> None:
        steps.append(images)
        if len(steps) == 3:
            with torch.no_grad():
                classifier.head.weight.fill_(float("nan"))

    with pytest.raises(BackendError, match=r"the loss is nan in step 2 \(epoch 1\)"):
        training.run(break_it)
    assert seen == [1]  # the epoch was not validated
    if checkpoint_minutes == 0:
        again, _ = training_of(load_clip(), make_recipe(*SMALL), checkpoint=path)
        assert again.step == 2  # of before it went wrong
    else:
        assert not path.exists()


@pytest.mark.slow
def test_a_compiled_training_is_the_same_but_for_rounding(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    options = (*SMALL, "train.accumulation_steps=2")
    plain, weights = run(load_clip(), make_recipe(*options))
    compiled, weights_compiled = run(load_clip(), make_recipe(*options, "train.compile=default"))
    assert [e.loss for e in compiled.history] == pytest.approx([e.loss for e in plain.history], rel=1e-4)
    assert weights.keys() == weights_compiled.keys()
    assert all(torch.allclose(weights[name], weights_compiled[name], atol=1e-4) for name in weights)


def test_what_trains_is_checked_in_the_first_step(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    training, classifier = training_of(load_clip(), make_recipe(*SMALL))
    name, parameter = next((n, p) for n, p in classifier.named_parameters() if "lora_A" in n)
    parameter.requires_grad_(False)
    with pytest.raises(BackendError, match=f"meant to train, and frozen: {name}"):
        training.run(lambda _: None)


@pytest.mark.parametrize("option", ["precision=bf16", "gradient_checkpointing=true", "blur_px=1", "mix_form=mask"])
def test_it_learns_with_each_option(load_clip: LoadClip, make_recipe: MakeRecipe, option: str) -> None:
    clip = load_clip()
    recipe = make_recipe(*SMALL, "train.epochs=8", f"train.{option}")
    clip.visual.set_grad_checkpointing(recipe.train.gradient_checkpointing)  # type: ignore[operator]
    trained, _ = run(clip, recipe)
    # Half the pairs are of both classes, at a loss of 1/2 on average at least: from above 2 to below 1.
    assert trained.history[-1].loss < trained.history[0].loss / 1.5
