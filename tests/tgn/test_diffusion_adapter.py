"""The diffusion variant's adapter on the miniature SDXL: what trains, what it changes, its file, batches, strength."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ltgc_local.backends.protocols import AdapterSettings, Drawing, DrawSettings, NoisedBatch, T2iOptions
from ltgc_local.backends.sdxl.denoise import strength_of
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from ltgc_local.errors import ArtefactError, BackendError
from ltgc_local.methods.tgn.adapter_training import AdapterTraining, TailImages
from ltgc_local.methods.tgn.feature_space import FeatureSpace
from ltgc_local.recipe.diffusion import Diffusion
from ltgc_local.runs.files import Tensors
from ltgc_local.training.trainer import Trainer

SDXL = Path(__file__).resolve().parents[2] / "data/miniatures/sdxl"
PROMPTS = ["A photo of a coat", "A photo of a bag"]
WITH = AdapterSettings(lora_rank=4, lora_alpha=4.0, cross_attention=False, feature_size=6, num_tokens=2, size_px=32)
DRAWN = DrawSettings(32, 3, 3.0, batch_size=8)
SETTINGS = Diffusion(
    size_px=32, lora_rank=4, steps=4, batch_size=4, lr=0.01, warmup_steps=0, log_every=1, checkpoint_minutes=0
)


def model_with(adapter: Path | None = None) -> DiffusersSdxl:
    return DiffusersSdxl(SDXL, T2iOptions(adapter=adapter))


def generate(model: DiffusersSdxl, wanted: list[Drawing], settings: DrawSettings = DRAWN) -> list[np.ndarray]:
    found = dict(model.draw(wanted, settings))
    return [np.asarray(found[i], np.int16) for i in range(len(wanted))]


def is_close(one: list[np.ndarray], other: list[np.ndarray], levels: int = 1) -> bool:
    return all(np.abs(a - b).max() <= levels for a, b in zip(one, other, strict=True))


def requests(features: torch.Tensor | None = None, source: Image.Image | None = None) -> list[Drawing]:
    return [Drawing(PROMPTS[i % 2], i, source, None if features is None else features[i]) for i in range(4)]


def tail_images(with_features: bool = True) -> TailImages:
    rng = torch.Generator().manual_seed(0)
    labels = np.array([0, 0, 0, 1, 1, 1])
    features = torch.randn(6, 6, generator=rng)
    space = FeatureSpace.measure(features, torch.from_numpy(labels))
    latents = torch.randn(6, 4, 8, 8, generator=rng)
    return TailImages(latents, labels, *((space.scale(features), space) if with_features else (None, None)))


def train(checkpoint: Path | None = None, steps: int | None = None) -> tuple[Any, Trainer]:
    torch.manual_seed(0)
    learner = model_with().learner(WITH, PROMPTS)

    def stop(line: Any) -> None:
        if line.step == steps:
            raise KeyboardInterrupt

    trainer = Trainer(AdapterTraining(SETTINGS, learner, tail_images(), 1), checkpoint, on_epoch=stop)
    with suppress(KeyboardInterrupt):
        trainer.run()
    return learner, trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an adapter that was trained for a few steps."""
    learner, _ = train()
    path = tmp_path_factory.mktemp("adapter") / "adapter.safetensors"
    weights, facts = learner.adapter()
    Tensors("adapter", weights, metadata=facts).write(path)
    return path


@pytest.mark.parametrize("cross", [False, True])
def test_gradients_reach_the_lora_and_the_features_map_and_nothing_else(cross: bool) -> None:
    learner = model_with().learner(replace(WITH, cross_attention=cross), PROMPTS)
    with pytest.raises(BackendError, match="should train but has no gradient"):
        learner.check_gradients()
    batch = NoisedBatch(
        latents=torch.zeros(2, 4, 8, 8),
        labels=torch.tensor([0, -1]),
        features=torch.randn(2, 6),
        noise=torch.randn(2, 4, 8, 8),
        timesteps=torch.tensor([5, 900]),
    )
    learner.loss(batch).backward()
    learner.check_gradients()
    names = list(learner.parameters)
    assert {name.split(".")[0] for name in names} == {"lora", "features"}
    assert any("attn1" in name for name in names) is not cross
    assert {name.split(".lora_")[0].split("attn2.")[1] for name in names if "attn2." in name and "lora_" in name} == {
        "to_q", "to_k", "to_v", "to_out.0",
    }  # fmt: skip
    next(learner._unet.conv_in.parameters()).requires_grad_(True)
    with pytest.raises(BackendError, match=r"should not train but is trainable: unet\.conv_in"):
        learner.check_gradients()


def test_an_untrained_adapter_changes_nothing(tmp_path: Path) -> None:
    weights, facts = model_with().learner(WITH, PROMPTS).adapter()
    path = tmp_path / "adapter.safetensors"
    Tensors("adapter", weights, metadata=facts).write(path)
    assert is_close(generate(model_with(), requests()), generate(model_with(path), requests(torch.ones(4, 6))), 0)


def test_what_is_fused_from_the_file_predicts_what_the_learner_did(trained: Path) -> None:
    learner, _ = train()
    fused = model_with(trained)
    features, latents = torch.randn(2, 6), torch.randn(2, 4, 8, 8)
    rows, noise, t = torch.tensor([0, 1]), torch.randn(2, 4, 8, 8), torch.tensor([100, 700])
    with torch.no_grad():
        batch = NoisedBatch(latents=latents, labels=rows, features=features, noise=noise, timesteps=t)
        wanted = float(learner.loss(batch))
        fused._prompts.prepare(PROMPTS, "")
        text = fused._prompts.rows(PROMPTS).with_tokens(fused._features(features))  # type: ignore[misc]
        sizes = torch.tensor([[32.0, 32, 0, 0, 32, 32]]).repeat(2, 1)
        noised = learner._schedule.add_noise(latents, noise, t)
        added = {"text_embeds": text.pooled, "time_ids": sizes}
        found = fused._pipeline.unet(noised, t, text.hidden, added_cond_kwargs=added).sample
    assert float((found - noise).square().mean()) == pytest.approx(wanted, rel=1e-4)
    plain = generate(model_with(), requests())
    assert not is_close(plain, generate(fused, requests(torch.randn(4, 6)))), "it was trained and changed something"


def test_features_steer_by_their_scale_and_an_image_without_them_is_not_steered(trained: Path) -> None:
    model, features = model_with(trained), 3 * torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    without = generate(model, requests())
    assert not is_close(without, generate(model, requests(features)))
    off = DrawSettings(32, 3, 3.0, batch_size=8, feature_scale=0.0)
    assert is_close(without, generate(model, requests(features), off), 0)


def test_one_at_a_time_and_all_at_once_are_the_same_images(trained: Path) -> None:
    model, features = model_with(trained), torch.randn(4, 6)
    together = generate(model, requests(features))
    assert is_close(together, generate(model, requests(features), DrawSettings(32, 3, 3.0, batch_size=1)))


def test_an_interrupted_training_resumes_to_the_same_losses_and_weights(tmp_path: Path) -> None:
    whole, one = train()
    checkpoint = tmp_path / "checkpoint.safetensors"
    train(checkpoint, steps=3)  # killed in the third step, before its checkpoint: the second's is there
    again, other = train(checkpoint)
    assert [line.losses for line in other.history] == [line.losses for line in one.history]
    assert other.step == SETTINGS.steps == len(other.history)
    assert all(torch.equal(again.parameters[name], tensor) for name, tensor in whole.parameters.items())


def test_a_file_of_something_else_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    Tensors("adapter", {"x": torch.zeros(1)}).write(path)
    with pytest.raises(ArtefactError, match="not this kind of file: its metadata has no 'sdxl_adapter'"):
        model_with(path)


# Amplitude match on SDXL's schedule (scaled linear, 0.00085 to 0.012, 1000 steps), computed once by hand in numpy.
@pytest.mark.parametrize(
    ("r", "strength"),
    [(0.05, 0.004), (0.1, 0.014), (0.2, 0.061), (0.3, 0.139), (0.5, 0.355), (0.7, 0.607), (0.8, 0.746), (0.9, 0.916)],
)
def test_r_as_a_strength_is_the_share_of_the_amplitude(r: float, strength: float) -> None:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = torch.from_numpy(np.cumprod(1 - betas))
    assert strength_of(r, alphas) == pytest.approx(strength, abs=0.0011)
    assert model_with().strength_of(r) == pytest.approx(strength, abs=0.0011)


def test_r_1_ignores_the_features_and_r_0_the_noise() -> None:
    data = tail_images()
    space, scaled, labels = data.space, data.features, torch.from_numpy(data.labels)
    assert space is not None and scaled is not None
    one, other = torch.randn(2, 6, 6)
    assert torch.equal(space.mix(scaled, labels, 1.0, one), space.mix(other, labels, 1.0, one))
    assert torch.equal(space.mix(scaled, labels, 0.0, one), space.mix(scaled, labels, 0.0, other))
    assert not torch.equal(space.mix(scaled, labels, 0.5, one), space.mix(scaled, labels, 0.5, other))


def test_noise_has_its_classes_mean_and_the_deviation_within_classes() -> None:
    # Channel values 0, 2 of class 0 and 4, 6 of class 1: mean 3, deviation sqrt 5; within each class 1 around 1 and 5.
    features = torch.tensor([[0.0], [2], [4], [6]])
    space = FeatureSpace.measure(features, torch.tensor([0, 0, 1, 1]))
    assert space.mean.item() == 3 and space.std.item() == pytest.approx(5**0.5)
    assert space.class_means[:, 0].tolist() == pytest.approx([-2 / 5**0.5, 2 / 5**0.5])
    assert space.within.item() == pytest.approx(1 / 5**0.5)
    mixed = space.mix(space.scale(features[:1]), torch.tensor([0]), 1.0, torch.tensor([[2.0]]))
    assert mixed.item() == pytest.approx((-2 + 2) / 5**0.5, abs=1e-6)
