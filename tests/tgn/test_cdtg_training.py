"""CDTG's training: fusion, what r does, exact resumption, the released behaviour, precision, options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltgc_local.errors import ArtefactError, BackendError
from ltgc_local.methods.tgn.cdtg.pixels import to_images
from ltgc_local.methods.tgn.cdtg.tail_generator import TailGenerator, load_tail_generator
from ltgc_local.methods.tgn.cdtg.training import CdtgTraining, _lazy_adam
from ltgc_local.methods.tgn.cdtg.warm_start import start_from
from ltgc_local.recipe.tgn import Cdtg
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import Tensors
from ltgc_local.training.checkpoints import read_checkpoint
from tests.tgn.cdtg_parts import NUM_TAIL, build_trainer, build_training, real_images


def numbers(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def made_by(generator: TailGenerator, features: torch.Tensor, r: float, seed: int = 0) -> torch.Tensor:
    random = generator.draw_seeded([seed, seed + 1], 0.0)
    with torch.no_grad():
        return generator(random, torch.tensor([0, 1]), features, r)


@pytest.fixture(scope="module")
def trained() -> CdtgTraining:
    training, trainer = build_trainer(class_weight=0.0, clip_weight=0.0)
    trainer.run()
    return training


@pytest.mark.parametrize("fusion", ["flatten", "pool"])
def test_the_fusion_map_is_trained_averaged_and_survives_its_file(fusion: str, tmp_path: Path) -> None:
    training, trainer = build_trainer(fusion=fusion, class_weight=0.0, clip_weight=0.0)
    before = numbers(training.generator)
    trainer.run()
    after, average = numbers(training.generator), training.average.weights
    name = "fusion.linear.weight"
    assert not torch.equal(before[name], after[name])
    assert not torch.equal(average[name], after[name]) and not torch.equal(average[name], before[name])
    path = tmp_path / "generator.safetensors"
    Tensors("generator", after, metadata=training.generator.facts()).write(path)
    loaded = load_tail_generator(path, "cpu")
    features = torch.randn(2, *training.generator.fusion.feature_shape)  # type: ignore[union-attr]
    assert torch.equal(made_by(loaded, features, 0.3), made_by(training.generator, features, 0.3))


def test_r_1_ignores_the_features_and_r_0_the_latents_noise(trained: CdtgTraining) -> None:
    generator = trained.generator
    one, other = (torch.randn(2, *generator.fusion.feature_shape) for _ in range(2))  # type: ignore[union-attr]
    assert torch.equal(made_by(generator, one, 1.0), made_by(generator, other, 1.0))
    assert not torch.allclose(made_by(generator, one, 0.5), made_by(generator, other, 0.5))
    labels = torch.tensor([0, 1])
    random, again = (generator.draw_seeded([seed, seed + 1], 1.0) for seed in (0, 9))
    again = replace(again, crossover=random.crossover)
    assert torch.equal(generator.styles(random, labels, one, 0.0), generator.styles(again, labels, one, 0.0))
    assert not torch.allclose(generator.styles(random, labels, one, 0.5), generator.styles(again, labels, one, 0.5))


def test_an_image_depends_on_its_own_seed_whatever_the_batch(trained: CdtgTraining) -> None:
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
def test_a_killed_training_resumes_with_the_same_losses_and_weights(tmp_path: Path, stopped_after: int) -> None:
    changes: dict[str, Any] = {"flip": True, "r_train_low": 0.1, "checkpoint_minutes": 0.0}
    whole, trainer = build_trainer(tmp_path / "whole.safetensors", **changes)
    trainer.run()

    class Killed(Exception):
        pass

    path = tmp_path / "killed.safetensors"

    def kill(images: int) -> None:
        if first.step > stopped_after:
            raise Killed

    _, first = build_trainer(path, **changes, on_step=kill)
    with pytest.raises(Killed):
        first.run()
    done: list[int] = []
    again, second = build_trainer(path, **changes, on_step=done.append)
    assert second.step == stopped_after
    second.run()
    assert done == [8 * stopped_after] + [8] * (12 - stopped_after)
    assert second.history == trainer.history
    for one, other in ((whole.generator, again.generator), (whole.discriminator, again.discriminator)):
        assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert all(torch.equal(tensor, again.average.weights[name]) for name, tensor in whole.average.weights.items())
    assert whole.ada.p == again.ada.p > 0


def test_a_checkpoint_holds_all_that_a_step_changes(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    _, trainer = build_trainer(path, checkpoint_minutes=0.0, class_weight=0.0, clip_weight=0.0)
    trainer.run()
    found = read_checkpoint(path)
    assert found is not None
    groups, facts = found
    assert set(groups) == {
        "generator", "discriminator", "average", "optimizer generator", "optimizer discriminator", "random", "noise",
        "ada", "path",
    }  # fmt: skip
    assert facts["step"] == 12


def test_the_history_has_a_line_every_few_steps_and_one_at_the_end() -> None:
    _, trainer = build_trainer(steps=10)
    history = trainer.run()
    assert [line.step for line in history] == [4, 8, 10]
    for line in history:  # R1 is taken in steps 0, 3, 6 and 9, the path length in every other
        assert set(line.losses) == {"discriminator", "generator", "class_loss", "clip_loss", "r1", "path_length"}
        assert all(loss > 0 for loss in line.losses.values())
        assert set(line.validation) == {"r_t", "ada_p"}


def test_the_released_behaviour_logs_its_losses_and_does_not_train_by_them() -> None:
    def after(**changes: Any) -> tuple[CdtgTraining, Any]:
        training, trainer = build_trainer(behaviour="released", augment="none", steps=4, **changes)
        fusion = numbers(training.generator)["fusion.linear.weight"]
        trainer.run()
        assert torch.equal(numbers(training.generator)["fusion.linear.weight"], fusion)
        assert "fusion.linear.weight" not in training.average.weights
        return training, trainer.history[-1].losses

    (weighted, losses), (plain, others) = after(class_weight=5.0, clip_weight=5.0), after(class_weight=0.0)
    assert losses["class_loss"] > 0 and losses["clip_loss"] > 0 and "class_loss" not in others
    assert all(
        torch.equal(tensor, plain.generator.state_dict()[name])
        for name, tensor in weighted.generator.state_dict().items()
    )


def test_a_released_file_lacks_the_fusion_map_which_is_random_when_it_is_loaded(tmp_path: Path) -> None:
    training = build_training()
    weights = {name: t for name, t in training.generator.state_dict().items() if not name.startswith("fusion.")}
    path = tmp_path / "generator.safetensors"
    Tensors("generator", weights, metadata=training.generator.facts()).write(path)
    torch.manual_seed(3)
    one = load_tail_generator(path, "cpu")
    torch.manual_seed(4)
    other = load_tail_generator(path, "cpu")
    assert not torch.equal(one.fusion.linear.weight, other.fusion.linear.weight)  # type: ignore[union-attr]
    assert torch.equal(one.generator.constant, other.generator.constant)


@pytest.mark.parametrize("damage", ["cut", "other", "unnamed"])
def test_a_damaged_generator_says_what_to_type(tmp_path: Path, damage: str) -> None:
    training, path = build_training(), tmp_path / "generator.safetensors"
    weights = dict(training.generator.state_dict())
    if damage == "other":
        del weights["generator.constant"]
    metadata = {} if damage == "unnamed" else training.generator.facts()
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
    given, training = build_training(steps=1), build_training(num_classes=NUM_TAIL + 2)
    with torch.no_grad():
        for parameter in (*given.generator.parameters(), *given.discriminator.parameters()):
            parameter.add_(1)
    networks = {"generator": given.generator.state_dict(), "discriminator": given.discriminator.state_dict()}
    folder = finish(tmp_path, **networks)
    labels = numbers(training.generator)["generator.label_embedding.weight"]
    start_from(folder, training.generator, training.discriminator)
    for one, other in ((given.generator, training.generator), (given.discriminator, training.discriminator)):
        for name, tensor in one.state_dict().items():
            assert "label_embedding" in name or torch.equal(tensor, other.state_dict()[name])
    assert torch.equal(numbers(training.generator)["generator.label_embedding.weight"], labels)


def test_what_cannot_be_started_from_says_what_to_type(tmp_path: Path) -> None:
    training = build_training()
    with pytest.raises(ArtefactError, match=r"cdtg\.start_from is the folder of a finished step: RUN/cdtg/train"):
        start_from(tmp_path, training.generator, training.discriminator)
    folder = finish(tmp_path, generator={"other": torch.zeros(2)})
    with pytest.raises(ArtefactError, match=r"none of its 1 weights .* --set cdtg\.start_from=null"):
        start_from(folder, training.generator, training.discriminator)
    path = folder / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtefactError, match=r"generator\.safetensors: damaged: its sha256 is not .* RUN/cdtg/train"):
        start_from(folder, training.generator, training.discriminator)


def test_a_loss_that_is_not_finite_says_what_to_type() -> None:
    training, trainer = build_trainer(class_weight=0.0, clip_weight=0.0)
    with torch.no_grad():
        training.generator.generator.constant.fill_(float("nan"))
    match = r"cdtg: discriminator is nan in step 0 \(epoch 0\); type --set cdtg\.lr=0\.005"
    with pytest.raises(BackendError, match=match):
        trainer.run()


@pytest.fixture(scope="module")
def plain() -> dict[str, torch.Tensor]:
    """The generator after four steps without any option; ``ada`` begins to change images after two."""
    training, trainer = build_trainer(steps=4)
    trainer.run()
    return numbers(training.generator)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("precision", "bf16"),
        ("features", False),
        ("label_fusion", "projection"),
        ("sampler", "balanced"),
        ("path_weight", 0.0),
        ("style_mixing", 0.0),
        ("r_train_low", 0.0),
        ("r1_weight", 0.0),
        ("class_weight", 0.0),
        ("clip_weight", 0.0),
        ("flip", True),
    ],
)
def test_every_option_trains_otherwise_than_without_it(key: str, value: Any, plain: dict[str, torch.Tensor]) -> None:
    training, trainer = build_trainer(steps=4, **{key: value})
    before = numbers(training.generator)
    trainer.run()
    after = numbers(training.generator)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert not torch.equal(before["generator.constant"], after["generator.constant"])
    assert not torch.allclose(plain["generator.constant"], after["generator.constant"], rtol=1e-4)
    assert (training.generator.fusion is None) == (key == "features")


def test_without_options_a_training_is_the_same_again(plain: dict[str, torch.Tensor]) -> None:
    training, trainer = build_trainer(steps=4)
    trainer.run()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in numbers(training.generator).items())


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_only_a_training_with_an_average_has_one(ema: float) -> None:
    training, trainer = build_trainer(steps=2, ema=ema)
    trainer.run()
    assert bool(training.average.weights) == (ema != 0)


def test_head_classes_may_train_it_too() -> None:
    """Their labels come after the tail's; the class and CLIP losses leave them out."""
    training = build_training(num_classes=NUM_TAIL + 2, steps=2)
    images = real_images(NUM_TAIL + 2)
    rows = np.flatnonzero(images.labels >= NUM_TAIL)[:8]
    losses = training.step(1, training.gather(rows))
    assert losses["class_loss"] == 0
    assert training.generator.generator.label_embedding.weight.shape[0] == NUM_TAIL + 2


def test_lazy_adam_has_the_rate_and_betas_of_the_released_code() -> None:
    settings = Cdtg()
    weights = [torch.nn.Parameter(torch.zeros(1))]
    of_generator = _lazy_adam(settings, weights, settings.path_every).defaults
    of_discriminator = _lazy_adam(settings, weights, settings.r1_every).defaults
    assert of_generator["lr"] == pytest.approx(0.002 * 4 / 5)
    assert of_generator["betas"] == (0, pytest.approx(0.99 ** (4 / 5)))
    assert of_discriminator["lr"] == pytest.approx(0.002 * 16 / 17)
    assert of_discriminator["betas"] == (0, pytest.approx(0.99 ** (16 / 17)))


def test_real_images_are_from_black_at_minus_1_to_white_at_1() -> None:
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1)
    assert to_images(pixels, torch.device("cpu")).flatten().tolist() == pytest.approx([-1, 1, -0.6])
