"""Fine-tuning of the shipped miniature: it learns, repeats itself, resumes from a checkpoint, keeps what it should."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.errors import ArtefactError, BackendError
from ltgc_local.methods.ltgc.arm_data import ArmData
from ltgc_local.methods.ltgc.fine_tuning import FineTuning, Teaching, Validate
from ltgc_local.recipe import Recipe
from ltgc_local.records import EpochMetrics
from ltgc_local.training.classifier import Classifier, CosineHead
from ltgc_local.training.images import ImageSet
from ltgc_local.training.lora import add_lora
from ltgc_local.training.optimization import trained_parameters
from ltgc_local.training.trainer import Trainer

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
    return ImageSet((noise + torch.from_numpy(labels * 150).to(torch.uint8).view(-1, 1, 1, 1),), labels)


def training_of(
    clip: OpenClipVit,
    recipe: Recipe,
    validate: Validate | None = None,
    checkpoint: Path | None = None,
    on_step: Callable[[int], None] = lambda images: None,
) -> tuple[Trainer, FineTuning]:
    """Two classes, dark and light: 8 and 8 originals, 4 and 8 generated images."""
    torch.manual_seed(0)
    texts = torch.randn(2, 96, generator=torch.Generator().manual_seed(6))
    head = CosineHead(texts, 25, trainable=recipe.train.head == "text")
    classifier = Classifier(add_lora(clip.visual, recipe, clip.lora_targets), head)
    images = dark_and_light()
    is_generated = (images.labels == 1) | (np.arange(len(images)) < 8)
    generated = ImageSet((images.parts[0][is_generated],), images.labels[is_generated])
    data = ArmData(recipe.train, recipe.train.mixing, images, generated, 2, 0)
    tuning = FineTuning(data, classifier, MEAN_STD, "cpu", validate or (lambda _: {"all": 0.0}))
    return Trainer(tuning, checkpoint, recipe.train.checkpoint_minutes, on_step=on_step), tuning


def weights_of(classifier: Classifier) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trained_parameters(classifier).items()}


def run(clip: OpenClipVit, recipe: Recipe, **others: object) -> tuple[list[EpochMetrics], FineTuning]:
    trainer, tuning = training_of(clip, recipe, **others)  # type: ignore[arg-type]
    return trainer.run(), tuning


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)


def losses_of(history: list[EpochMetrics]) -> list[float]:
    return [epoch.losses["loss"] for epoch in history]


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
        trainer, tuning = training_of(
            load_clip(), recipe, lambda model: {"all": float(not model.training)}, on_step=seen.append
        )
        history = trainer.run()
        assert seen == [0] + [8] * 12  # 2 steps an epoch, none done before
        assert [epoch.epoch for epoch in history] == list(range(6))
        return history, weights_of(tuning.classifier)

    history, weights = once()
    assert history[-1].losses["loss"] < history[0].losses["loss"] / 2
    assert [epoch.validation for epoch in history] == [{"all": 1.0}] * 6  # measured in evaluation mode
    again, weights_again = once()
    assert [epoch.losses for epoch in again] == [epoch.losses for epoch in history]
    assert same(weights, weights_again)


ALL_STATE = (
    *SMALL, "train.optimizer=adamw", "train.lora_dropout=0.3", "train.ema=0.8", "train.noise=0.1",
    "train.warmup_steps=2", "train.augment=flip_crop", "train.checkpoint_minutes=0", "train.select=best_val_all",
)  # fmt: skip


@pytest.mark.parametrize("killed_after", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "settings",
    [
        ALL_STATE,
        (*SMALL, "train.checkpoint_minutes=0"),
        (*SMALL, "train.checkpoint_minutes=0", "train.mixing=joint", "train.sampler=instance"),
    ],
)
def test_a_killed_training_goes_on_as_if_it_had_not_been(
    load_clip: LoadClip, make_recipe: MakeRecipe, tmp_path: Path, settings: tuple[str, ...], killed_after: int
) -> None:
    recipe = make_recipe(*settings)
    brightness = dark_and_light().parts[0][:1].float() / 255

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        return {"all": float(model(brightness)[0, 0].detach())}  # differs with the weights, and not in order

    history, whole = run(load_clip(), recipe, validate=validate)
    path = tmp_path / "step" / "checkpoint.safetensors"
    steps: list[int] = []

    def stop(images: int) -> None:
        steps.append(images)
        if len(steps) == killed_after + 2:  # in the step after the checkpoint of step ``killed_after``
            raise Killed

    with pytest.raises(Killed):
        training_of(load_clip(), recipe, validate, path, stop)[0].run()
    torch.manual_seed(99)
    done: list[int] = []
    trainer, resumed = training_of(load_clip(), recipe, validate, path, done.append)
    assert trainer.step == killed_after
    resumed_history = trainer.run()
    assert done == [8 * killed_after] + [8] * (STEPS - killed_after)
    assert resumed_history == history
    assert same(weights_of(resumed.classifier), weights_of(whole.classifier))
    assert resumed.selection.epoch == whole.selection.epoch


def test_a_training_that_ended_is_not_done_again(load_clip: LoadClip, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe, path = make_recipe(*SMALL, "train.checkpoint_minutes=0"), tmp_path / "checkpoint.safetensors"
    history, whole = run(load_clip(), recipe, checkpoint=path)
    trainer, again = training_of(load_clip(), recipe, checkpoint=path)
    assert trainer.step == STEPS
    assert trainer.run() == history
    assert same(weights_of(again.classifier), weights_of(whole.classifier))


def test_a_damaged_checkpoint_says_what_to_type(load_clip: LoadClip, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(ArtefactError, match=r"damaged: .*; do the step again that made it"):
        training_of(load_clip(), make_recipe(*SMALL), checkpoint=path)


def test_a_batch_in_parts_is_the_same_step(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    # 8 pairs in 3 parts, of 3, 3 and 2: a part counts by its number of pairs.
    history, whole = run(load_clip(), make_recipe(*SMALL))
    of_parts, parts = run(load_clip(), make_recipe(*SMALL, "train.accumulation_steps=3"))
    assert losses_of(of_parts) == pytest.approx(losses_of(history), rel=1e-4)
    assert close(weights_of(parts.classifier), weights_of(whole.classifier))
    smaller, _ = run(load_clip(), make_recipe(*SMALL, "train.batch_size=3"))
    assert losses_of(smaller) != pytest.approx(losses_of(history), rel=1e-2)


def test_each_image_of_a_joint_batch_is_adjusted_by_the_prior_of_its_part(
    load_clip: LoadClip, make_recipe: MakeRecipe
) -> None:
    # 6 of 8 images by replace, of originals with shares 12/16 and 4/16; 2 pairs, at E[lam] 1/2 with the generated
    # images' shares 4/16 and 12/16: 1/2 * [1, 1] / 2 + 1/2 * [1, 3] / 4 = [3/8, 5/8].
    options = ("train.mixing=joint", "train.loss=logit_adjustment", "train.sampler=instance", "train.augment=none")
    priors = torch.tensor([[0.75, 0.25]] * 6 + [[3 / 8, 5 / 8]] * 2)
    found = []
    for parts in (1, 3):
        _, tuning = training_of(load_clip(), make_recipe(*SMALL, *options, f"train.accumulation_steps={parts}"))
        images = tuning._data.original.parts
        sets = [ImageSet(images, (np.arange(16) >= first).astype(np.int64)) for first in (12, 4)]
        tuning._data = ArmData(tuning._settings, "joint", *sets, 2, 0)
        batch = tuning.gather(next(tuning.draws()))
        inputs, targets = tuning._data.tensors(batch[1], batch[2], *MEAN_STD)
        with torch.no_grad():
            adjusted = tuning.classifier(inputs).softmax(1) * priors  # softmax(z + log pi) is p * pi, normalised
        expected = -(targets * (adjusted / adjusted.sum(1, keepdim=True)).log()).sum(1).mean()
        loss = tuning.step(0, batch)["loss"]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        found.append(loss.item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_the_moving_average_is_what_is_validated_and_kept(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    recipe, steps = make_recipe(*SMALL, "train.ema=0.75"), []

    def average(images: int) -> None:  # by hand: 3/4 of the average and 1/4 of the weights after each step
        steps.append(images)
        for name, weight in weights_of(plain.classifier).items() if len(steps) > 1 else ():
            expected[name] = 0.75 * expected[name] + 0.25 * weight

    trainer, plain = training_of(load_clip(), make_recipe(*SMALL), on_step=average)
    expected = weights_of(plain.classifier)
    trainer.run()
    last = weights_of(plain.classifier)
    validated: list[dict[str, torch.Tensor]] = []

    def validate(model: torch.nn.Module) -> dict[str, float | None]:
        assert isinstance(model, Classifier)
        validated.append(weights_of(model))
        return {"all": 0.0}

    kept = weights_of(run(load_clip(), recipe, validate=validate)[1].classifier)
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

    _, tuning = run(load_clip(), make_recipe(*SMALL, f"train.select={select}"), validate=validate)
    kept = weights_of(tuning.classifier)
    assert tuning.selection.epoch == epoch
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


def test_a_loss_that_is_not_finite_says_what_to_type(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    trainer, tuning = training_of(load_clip(), make_recipe(*SMALL))
    with torch.no_grad():
        tuning.classifier.head.weight.fill_(float("nan"))
    with pytest.raises(BackendError, match=r"train: loss is nan in step 0 \(epoch 0\); type --set train\.lr=0\.001"):
        trainer.run()


@pytest.mark.slow
def test_a_compiled_training_is_the_same_but_for_rounding(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    options = (*SMALL, "train.accumulation_steps=2")
    history, plain = run(load_clip(), make_recipe(*options))
    of_compiled, compiled = run(load_clip(), make_recipe(*options, "train.compile=default"))
    assert losses_of(of_compiled) == pytest.approx(losses_of(history), rel=1e-4)
    assert close(weights_of(compiled.classifier), weights_of(plain.classifier))


def test_what_trains_is_checked_in_the_first_step(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    trainer, tuning = training_of(load_clip(), make_recipe(*SMALL))
    name, parameter = next((n, p) for n, p in tuning.classifier.named_parameters() if "lora_A" in n)
    parameter.requires_grad_(False)
    with pytest.raises(BackendError, match=f"should train but is frozen: {name}"):
        trainer.run()


@pytest.mark.parametrize("option", ["precision=bf16", "gradient_checkpointing=true", "blur_px=1", "mix_form=mask"])
def test_it_learns_with_each_option(load_clip: LoadClip, make_recipe: MakeRecipe, option: str) -> None:
    clip = load_clip()
    recipe = make_recipe(*SMALL, "train.epochs=8", f"train.{option}")
    clip.visual.set_grad_checkpointing(recipe.train.gradient_checkpointing)  # type: ignore[operator]
    history, _ = run(clip, recipe)
    # Half the pairs are of both classes, at a loss of 1/2 on average at least: from above 2 to below 1.
    assert losses_of(history)[-1] < losses_of(history)[0] / 1.5


@pytest.mark.parametrize("option", ["blur_px=1", "noise=0.1", "augment=none", "mix_form=mask", "mix_alpha=5"])
def test_what_changes_the_images_changes_the_first_step(
    load_clip: LoadClip, make_recipe: MakeRecipe, option: str
) -> None:
    def first_loss(*options: str) -> float:
        _, tuning = training_of(load_clip(), make_recipe(*SMALL, *options))
        return tuning.step(0, tuning.gather(next(tuning.draws())))["loss"].item()

    assert first_loss(f"train.{option}") != pytest.approx(first_loss(), rel=1e-4)
    assert first_loss() == first_loss()


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_forward_pass_has_the_precision_that_was_asked_for_and_the_weights_have_fp32(
    load_clip: LoadClip, make_recipe: MakeRecipe, precision: str, expected: torch.dtype
) -> None:
    _, tuning = training_of(load_clip(), make_recipe(*SMALL, f"train.precision={precision}"))
    seen: set[torch.dtype] = set()
    for name, module in tuning.classifier.tower.named_modules():
        if name.endswith("mlp.c_fc"):
            module.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    tuning.step(0, tuning.gather(next(tuning.draws())))
    assert seen == {expected}
    assert {p.dtype for p in trained_parameters(tuning.classifier).values()} == {torch.float32}


class Says(torch.nn.Module):
    """A teacher that gives every image the same logits."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


def test_the_loss_of_distillation_by_hand() -> None:
    # teacher (0.8, 0.2), student (0.5, 0.5): KL = 0.8 log 1.6 + 0.2 log 0.4 = 0.1927; labels' loss 2, weight 0.25.
    teacher = Says(*torch.tensor([0.8, 0.2]).log().tolist())
    images, logits = torch.zeros(3, 3, 4, 4), torch.zeros(3, 2)
    taught = Teaching(teacher, 0.25, 1.0).teach(images)
    found = Teaching(teacher, 0.25, 1.0).mixed(torch.tensor(2.0), logits, taught)
    assert float(found) == pytest.approx(0.25 * 2 + 0.75 * 0.19274, abs=1e-4)
    # At T = 2 the teacher says (0.8, 0.2) ** 0.5 = (2/3, 1/3): KL = 2/3 log 4/3 + 1/3 log 2/3 = 0.05663, times 4.
    warm = Teaching(teacher, 0.0, 2.0).mixed(torch.tensor(2.0), logits, taught)
    assert float(warm) == pytest.approx(4 * 0.05663, abs=1e-4)


def test_a_model_learns_what_its_teacher_says_and_not_the_labels(load_clip: LoadClip, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(*SMALL, "train.mixing=none", "train.control=false", "train.epochs=8")
    trainer, tuning = training_of(load_clip(), recipe)
    teacher = Says(1.0, -1.0)  # class 0, whatever the image
    tuning._teaching = Teaching(teacher, 0.0, 1.0)
    trainer.run()
    with torch.no_grad():
        said = tuning.classifier.eval()(dark_and_light().parts[0].float() / 255).softmax(-1)
    assert said[:, 0].min() > 0.7  # also for the 8 images of class 1
