"""CDTG's training: fusion, what r does, exact resumption, the released behaviour, precision, options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltgc_local.errors import ArtefactError, BackendError
from ltgc_local.methods.tgn.cdtg.steps import CdtgSteps, _lazy_adam
from ltgc_local.methods.tgn.cdtg.tail_generator import TailGenerator, load_tail_generator
from ltgc_local.methods.tgn.cdtg.warm_start import start_from
from ltgc_local.recipe.schema import Cdtg
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Tensors
from ltgc_local.training.checkpoints import read_checkpoint
from tests.tgn.cdtg_parts import NUM_TAIL, build_steps, build_training, real_images


def numbers(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def made_by(generator: TailGenerator, features: torch.Tensor, r: float, seed: int = 0) -> torch.Tensor:
    random = generator.draw_seeded([seed, seed + 1], 0.0)
    with torch.no_grad():
        return generator(random, torch.tensor([0, 1]), features, r)


@pytest.fixture(scope="module")
def trained() -> CdtgSteps:
    steps, training = build_training(class_weight=0.0, clip_weight=0.0)
    training.run(lambda images: None)
    return steps


@pytest.mark.parametrize("fusion", ["flatten", "pool"])
def test_the_fusion_map_is_trained_averaged_and_survives_its_file(fusion: str, tmp_path: Path) -> None:
    steps, training = build_training(fusion=fusion, class_weight=0.0, clip_weight=0.0)
    before = numbers(steps.generator)
    training.run(lambda images: None)
    after, average = numbers(steps.generator), steps.average.weights
    name = "fusion.linear.weight"
    assert not torch.equal(before[name], after[name])
    assert not torch.equal(average[name], after[name]) and not torch.equal(average[name], before[name])
    path = tmp_path / "generator.safetensors"
    Tensors("generator", after, metadata=steps.generator.facts()).write(path)
    loaded = load_tail_generator(path, "cpu")
    features = torch.randn(2, *steps.generator.fusion.feature_shape)  # type: ignore[union-attr]
    assert torch.equal(made_by(loaded, features, 0.3), made_by(steps.generator, features, 0.3))


def test_r_1_ignores_the_features_and_r_0_the_latents_noise(trained: CdtgSteps) -> None:
    generator = trained.generator
    one, other = (torch.randn(2, *generator.fusion.feature_shape) for _ in range(2))  # type: ignore[union-attr]
    assert torch.equal(made_by(generator, one, 1.0), made_by(generator, other, 1.0))
    assert not torch.allclose(made_by(generator, one, 0.5), made_by(generator, other, 0.5))
    labels = torch.tensor([0, 1])
    random, again = (generator.draw_seeded([seed, seed + 1], 1.0) for seed in (0, 9))
    again = replace(again, crossover=random.crossover)
    assert torch.equal(generator.styles(random, labels, one, 0.0), generator.styles(again, labels, one, 0.0))
    assert not torch.allclose(generator.styles(random, labels, one, 0.5), generator.styles(again, labels, one, 0.5))


def test_an_image_depends_on_its_own_seed_whatever_the_batch(trained: CdtgSteps) -> None:
    generator = trained.generator
    features = torch.randn(3, *generator.fusion.feature_shape)  # type: ignore[union-attr]
    labels, seeds = torch.tensor([0, 1, 2]), [5, 2**62, 7]
    with torch.no_grad():
        together = generator(generator.draw_seeded(seeds, 0.5), labels, features, 0.5)
        alone = [
            generator(generator.draw_seeded([seed], 0.5), labels[i : i + 1], features[i : i + 1], 0.5)
            for i, seed in enumerate(seeds)
        ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


@pytest.mark.parametrize("stopped_after", [1, 5, 9])
def test_a_killed_training_goes_on_with_the_same_losses_and_weights(tmp_path: Path, stopped_after: int) -> None:
    changes: dict[str, Any] = {"flip": True, "r_train_low": 0.1, "checkpoint_minutes": 0.0}
    whole, training = build_training(tmp_path / "whole.safetensors", **changes)
    training.run(lambda images: None)

    class Killed(Exception):
        pass

    path = tmp_path / "killed.safetensors"
    _, first = build_training(path, **changes)

    def kill(images: int) -> None:
        if first.step > stopped_after:
            raise Killed

    with pytest.raises(Killed):
        first.run(kill)
    again, second = build_training(path, **changes)
    assert second.step == stopped_after
    done: list[int] = []
    second.run(done.append)
    assert done == [8 * stopped_after] + [8] * (12 - stopped_after)
    assert [replace(line, images_per_second=0) for line in second.history] == [
        replace(line, images_per_second=0) for line in training.history
    ]
    for one, other in ((whole.generator, again.generator), (whole.discriminator, again.discriminator)):
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert all(torch.equal(tensor, again.average.weights[name]) for name, tensor in whole.average.weights.items())
    assert whole.ada.p == again.ada.p > 0


def test_a_checkpoint_holds_all_that_a_step_changes(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    _, training = build_training(path, checkpoint_minutes=0.0, class_weight=0.0, clip_weight=0.0)
    training.run(lambda images: None)
    found = read_checkpoint(path)
    assert found is not None
    groups, facts = found
    assert set(groups) == {
        "generator", "discriminator", "average", "generator_optimizer", "discriminator_optimizer", "random", "sums",
        "ada", "path",
    }  # fmt: skip
    assert facts["step"] == 12


def test_the_history_has_a_line_every_so_many_steps_and_one_at_the_end() -> None:
    lines: list[int] = []
    _, training = build_training(steps=10)
    training.run(lambda images: None, lines.append)
    assert [line.step for line in training.history] == lines == [4, 8, 10]
    for line in training.history:
        assert line.discriminator > 0 and line.generator > 0 and line.class_loss > 0 and line.clip_loss > 0
        assert line.path_length > 0


def test_the_released_behaviour_logs_its_losses_and_does_not_train_by_them() -> None:
    def after(**changes: Any) -> tuple[CdtgSteps, Any]:
        steps, training = build_training(behaviour="released", augment="none", steps=4, **changes)
        fusion = numbers(steps.generator)["fusion.linear.weight"]
        training.run(lambda images: None)
        assert torch.equal(numbers(steps.generator)["fusion.linear.weight"], fusion)
        assert "fusion.linear.weight" not in steps.average.weights
        return steps, training.history[-1]

    (weighted, line), (plain, other) = after(class_weight=5.0, clip_weight=5.0), after(class_weight=0.0)
    assert line.class_loss > 0 and line.clip_loss > 0 and other.class_loss == 0
    assert all(
        torch.equal(tensor, plain.generator.state_dict()[name])
        for name, tensor in weighted.generator.state_dict().items()
    )


def test_a_released_file_lacks_the_fusion_map_which_is_drawn_when_it_is_loaded(tmp_path: Path) -> None:
    steps = build_steps()
    weights = {name: t for name, t in steps.generator.state_dict().items() if not name.startswith("fusion.")}
    path = tmp_path / "generator.safetensors"
    Tensors("generator", weights, metadata=steps.generator.facts()).write(path)
    torch.manual_seed(3)
    one = load_tail_generator(path, "cpu")
    torch.manual_seed(4)
    other = load_tail_generator(path, "cpu")
    assert not torch.equal(one.fusion.linear.weight, other.fusion.linear.weight)  # type: ignore[union-attr]
    assert torch.equal(one.generator.constant, other.generator.constant)


@pytest.mark.parametrize("damage", ["cut", "other", "unnamed"])
def test_a_damaged_generator_says_what_to_type(tmp_path: Path, damage: str) -> None:
    steps, path = build_steps(), tmp_path / "generator.safetensors"
    weights = dict(steps.generator.state_dict())
    if damage == "other":
        del weights["generator.constant"]
    metadata = {} if damage == "unnamed" else steps.generator.facts()
    Tensors("generator", weights, metadata=metadata or None).write(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtefactError, match="do the step again that made it"):
        load_tail_generator(path, "cpu")


def finish(root: Path, **tensors: dict[str, torch.Tensor]) -> Path:
    """Write a finished step of these files; return its folder."""
    run = RunDirectory(root)
    facts = {"items": 1, "seconds": 0.0, "peak_mib": 0}
    run.write_chunk("cdtg/train", 0, [Tensors(name, each) for name, each in tensors.items()], facts, numbered=False)
    run.write_manifest("cdtg/train", {}, 1, 0)
    return run.folder("cdtg/train")


def test_networks_start_from_another_run_where_the_shapes_are_the_same(tmp_path: Path) -> None:
    given, steps = build_steps(steps=1), build_steps(num_classes=NUM_TAIL + 2)
    with torch.no_grad():
        for parameter in (*given.generator.parameters(), *given.discriminator.parameters()):
            parameter.add_(1)
    networks = {"generator": given.generator.state_dict(), "discriminator": given.discriminator.state_dict()}
    folder = finish(tmp_path, **networks)
    labels = numbers(steps.generator)["generator.label_embedding.weight"]
    start_from(folder, steps.generator, steps.discriminator)
    for one, other in ((given.generator, steps.generator), (given.discriminator, steps.discriminator)):
        for name, tensor in one.state_dict().items():
            assert "label_embedding" in name or torch.equal(tensor, other.state_dict()[name])
    assert torch.equal(numbers(steps.generator)["generator.label_embedding.weight"], labels)


def test_what_cannot_be_started_from_says_what_to_type(tmp_path: Path) -> None:
    steps = build_steps()
    with pytest.raises(ArtefactError, match=r"cdtg\.start_from is the folder of a finished step: RUN/cdtg/train"):
        start_from(tmp_path, steps.generator, steps.discriminator)
    folder = finish(tmp_path, generator={"other": torch.zeros(2)})
    with pytest.raises(ArtefactError, match=r"none of its 1 weights .* --set cdtg\.start_from=null"):
        start_from(folder, steps.generator, steps.discriminator)
    path = folder / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtefactError, match=r"generator\.safetensors: damaged: its sha256 is not .* RUN/cdtg/train"):
        start_from(folder, steps.generator, steps.discriminator)


def test_a_loss_that_is_no_number_says_what_to_type() -> None:
    steps, training = build_training(class_weight=0.0, clip_weight=0.0)
    with torch.no_grad():
        steps.generator.generator.constant.fill_(float("nan"))
    with pytest.raises(BackendError, match=r"no number after 12 steps; type --set cdtg\.lr=0\.005"):
        training.run(lambda images: None)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"features": False},
        {"label_fusion": "projection", "sampler": "balanced"},
        {"path_weight": 0.0, "style_mixing": 0.0, "ema": 0.0},
        {"augment": "none", "r_train_low": 0.0},
    ],
    ids=str,
)
def test_every_option_trains(changes: dict[str, Any]) -> None:
    steps, training = build_training(steps=4, **changes)
    before = numbers(steps.generator)
    training.run(lambda images: None)
    after = numbers(steps.generator)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert not torch.equal(before["generator.constant"], after["generator.constant"])
    assert (steps.generator.fusion is None) == (changes.get("features") is False)
    assert bool(steps.average.weights) == (changes.get("ema") != 0.0)


def test_head_classes_may_train_it_too() -> None:
    """Their labels come after the tail's; the class and CLIP losses leave them out."""
    steps = build_steps(num_classes=NUM_TAIL + 2, steps=2)
    images = real_images(NUM_TAIL + 2)
    rows = np.flatnonzero(images.labels >= NUM_TAIL)[:8]
    steps.take(rows, 1)
    assert steps.sums["class_loss"].tolist() == [0, 1]
    assert steps.generator.generator.label_embedding.weight.shape[0] == NUM_TAIL + 2


def test_lazy_adam_has_the_rate_and_betas_of_the_released_code() -> None:
    settings = Cdtg()
    weights = [torch.nn.Parameter(torch.zeros(1))]
    of_generator = _lazy_adam(settings, weights, settings.path_every).defaults
    of_discriminator = _lazy_adam(settings, weights, settings.r1_every).defaults
    assert of_generator["lr"] == pytest.approx(0.002 * 4 / 5)
    assert of_generator["betas"] == (0, pytest.approx(0.99 ** (4 / 5)))
    assert of_discriminator["lr"] == pytest.approx(0.002 * 16 / 17)
    assert of_discriminator["betas"] == (0, pytest.approx(0.99 ** (16 / 17)))


def test_real_images_are_drawn_evenly_or_class_by_class() -> None:
    images = real_images()
    object.__setattr__(images, "labels", np.array([0] * 20 + [1] * 3 + [2]))
    every = np.concatenate([rows for rows, _ in zip(images.batches(6, "instance", 0), range(4), strict=False)])
    assert sorted(every.tolist()) == list(range(24))
    drawn = np.concatenate([rows for rows, _ in zip(images.batches(60, "balanced", 0), range(10), strict=False)])
    shares = np.bincount(images.labels[drawn]) / len(drawn)
    assert shares == pytest.approx(np.full(3, 1 / 3), abs=0.06)
    pixels, labels = images.take(np.array([0, 23]), torch.device("cpu"))
    assert pixels.shape == (2, 3, 16, 16) and labels.tolist() == [0, 2]
    assert pixels.abs().max() <= 1
