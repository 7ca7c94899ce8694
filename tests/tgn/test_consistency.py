"""The class and CLIP losses: they reach the generator through the pixels and leave both judges as they were."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.backends.protocols import ModelOptions
from ltgc_local.methods.tgn.cdtg.losses import consistency_loss
from tests.tgn.cdtg_parts import CLIP, build_judge, build_tail_network, build_training


def test_the_loss_counts_the_tail_classes_alone() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    expected = (math.log(1 + math.exp(-2)) + math.log(2)) / 2  # the third image is of a head class
    assert consistency_loss(logits, torch.tensor([0, 1, 7])).item() == pytest.approx(expected)
    assert consistency_loss(logits, torch.tensor([2, 3, 4])).item() == 0


def test_clips_logits_are_the_scaled_cosines_of_its_own_preprocessing() -> None:
    judge = build_judge()
    size = judge.size_px
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    model = OpenClipVit(CLIP, ModelOptions())
    expected = judge.scale * model.encode_images([Image.fromarray(p) for p in pixels]) @ judge.texts.T
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.allclose(judge(images), expected, atol=1e-3)


def test_images_of_any_size_are_resized_and_keep_their_gradient() -> None:
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    judge = build_judge()
    assert images.shape[-1] != judge.size_px
    consistency_loss(judge(images), torch.tensor([0, 1])).backward()
    assert images.grad is not None and bool((images.grad.abs().sum((1, 2, 3)) > 0).all())


@pytest.mark.parametrize("name", ["clip", "tail network"])
def test_descending_the_loss_brings_images_to_their_class(name: str) -> None:
    clip, tail_network = build_judge(), build_tail_network()
    judge = clip if name == "clip" else lambda images: tail_network(images)[0]
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 1, 2])
    optimizer = torch.optim.Adam([images], lr=0.1)
    first = consistency_loss(judge(images), labels).item()
    for _ in range(40):
        optimizer.zero_grad()
        consistency_loss(judge(images), labels).backward()
        optimizer.step()
    assert consistency_loss(judge(images), labels).item() < 0.8 * first


@pytest.mark.parametrize("loss", ["class_weight", "clip_weight"])
def test_each_loss_changes_what_the_generator_learns(loss: str) -> None:
    """The generator's gradient with the loss minus that without is the gradient of the loss itself."""
    other = "clip_weight" if loss == "class_weight" else "class_weight"
    gradients = {}
    for weight in (0.0, 1.0):
        training = build_training(**{loss: weight, other: 0.0, "augment": "none"})
        labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
        features = training._tail_network.features(torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
        training._generator_step(training.generator(*training._inputs(labels, features)), labels)
        gradients[weight] = {
            name: p.grad.clone() for name, p in training._parameters["generator"].items() if p.grad is not None
        }
    changed = [n for n in gradients[0.0] if not torch.allclose(gradients[0.0][n], gradients[1.0][n], rtol=1e-3)]
    assert "fusion.linear.weight" in changed
    assert "generator.constant" in changed and any(name.startswith("generator.mapping") for name in changed)


def test_training_leaves_the_tail_network_and_clip_as_they_were() -> None:
    training = build_training()
    judge = training._clip
    assert judge is not None
    before = {
        name: tensor.clone()
        for network in (training._tail_network, judge)
        for name, tensor in network.state_dict(prefix=type(network).__name__).items()
    }
    for step in range(4):
        training.step(step, training.gather(np.arange(8) * 3))
    after = {
        name: tensor
        for network in (training._tail_network, judge)
        for name, tensor in network.state_dict(prefix=type(network).__name__).items()
    }
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(p.grad is None for network in (training._tail_network, judge) for p in network.parameters())


def test_in_eval_mode_an_images_features_do_not_depend_on_its_batch() -> None:
    network = build_tail_network()
    images = torch.rand(4, 3, 16, 16)
    assert torch.allclose(network.features(images)[:1], network.features(images[:1]), atol=1e-5)


def test_a_judges_texts_are_those_of_its_prompts_in_their_order() -> None:
    model = OpenClipVit(CLIP, ModelOptions())
    one_by_one = torch.cat([model.encode_texts([f"A photo of a {name}"]) for name in ("sneaker", "trouser", "bag")])
    assert torch.allclose(build_judge().texts, one_by_one, atol=1e-5)
    assert (one_by_one @ one_by_one.T).fill_diagonal_(0).max() < 0.99  # no two are alike, so the order shows
