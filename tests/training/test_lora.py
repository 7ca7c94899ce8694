"""LoRA on the shipped miniature CLIP: what it adapts, that it starts as the identity, and that merging is exact."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from ltgc_local.backends.open_clip_vit import OpenClipVit
from ltgc_local.errors import BackendError
from ltgc_local.recipe import Recipe
from ltgc_local.training.classifier import Classifier, CosineHead
from ltgc_local.training.lora import adapter_state, add_lora, check_gradients, load_adapter, merge

MakeRecipe = Callable[..., Recipe]
TARGETS = ["attention", "attention+mlp"]


def disturb(adapted: torch.nn.Module) -> None:
    """Move the adapters away from the identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.02, generator=generator)


def outputs(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(images)


@pytest.mark.parametrize("targets", TARGETS)
def test_at_the_start_the_adapted_tower_is_the_frozen_one(
    clip: OpenClipVit, images: torch.Tensor, make_recipe: MakeRecipe, targets: str
) -> None:
    before = outputs(clip.visual, images)
    adapted = add_lora(clip.visual, make_recipe(f"train.lora_targets={targets}"))
    assert torch.allclose(outputs(adapted, images), before, atol=1e-5)


@pytest.mark.parametrize("targets", TARGETS)
def test_merged_equals_unmerged(clip: OpenClipVit, images: torch.Tensor, make_recipe: MakeRecipe, targets: str) -> None:
    before = outputs(clip.visual, images)
    adapted = add_lora(clip.visual, make_recipe(f"train.lora_targets={targets}", "train.lora_alpha=32"))
    disturb(adapted)
    unmerged = outputs(adapted, images)
    assert (unmerged - before).abs().max() > 1e-3  # the adapters do something
    merged = merge(copy.deepcopy(adapted))
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert torch.allclose(outputs(merged, images), unmerged, atol=1e-5)
    assert torch.equal(outputs(adapted, images), unmerged)  # the copy was merged, not this


def test_each_projection_gets_its_update_once(clip: OpenClipVit, images: torch.Tensor, make_recipe: MakeRecipe) -> None:
    # By hand: W + (alpha / rank) * B A in all four projections of every block. (peft adds out_proj's twice.)
    by_hand = copy.deepcopy(clip.visual)
    adapted = add_lora(clip.visual, make_recipe("train.lora_rank=4", "train.lora_alpha=8"))
    disturb(adapted)
    tensors = dict(adapted.named_parameters())
    homes = {"attn": "attn.in_proj_weight", "attn.base_layer.out_proj": "attn.out_proj.weight"}
    homes |= {"mlp.c_fc": "mlp.c_fc.weight", "mlp.c_proj": "mlp.c_proj.weight"}
    for block in range(4):
        for adapter, weight in homes.items():
            prefix = f"base_model.model.transformer.resblocks.{block}.{adapter}"
            b, a = (tensors[f"{prefix}.lora_{letter}.default.weight"] for letter in "BA")
            with torch.no_grad():
                by_hand.get_parameter(f"transformer.resblocks.{block}.{weight}").add_(8 / 4 * b @ a)
    assert torch.allclose(outputs(adapted, images), outputs(by_hand, images), atol=1e-5)


@pytest.mark.parametrize(("targets", "adapters_a_block"), [("attention", 2), ("attention+mlp", 4)])
def test_every_block_is_adapted_and_nothing_else_trains(
    clip: OpenClipVit, make_recipe: MakeRecipe, targets: str, adapters_a_block: int
) -> None:
    # A block has in_proj and out_proj, with the MLP also c_fc and c_proj; an adapter is an A and a B; four blocks.
    adapted = add_lora(clip.visual, make_recipe(f"train.lora_targets={targets}", "train.lora_rank=4"))
    trainable = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trainable) == 4 * adapters_a_block * 2
    assert all("lora_" in name for name in trainable)
    assert {p.shape[0] for name, p in trainable.items() if "lora_A" in name} == {4}
    for block in range(4):
        assert sum(f"resblocks.{block}." in name for name in trainable) == 2 * adapters_a_block


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("trainable_head", [True, False])
def test_a_step_changes_adapters_and_head_alone_and_all_of_them(
    clip: OpenClipVit, images: torch.Tensor, make_recipe: MakeRecipe, targets: str, trainable_head: bool
) -> None:
    adapted = add_lora(clip.visual, make_recipe(f"train.lora_targets={targets}"))
    disturb(adapted)  # at the start B = 0, so that A's gradient would be 0
    head = CosineHead(torch.randn(3, 96, generator=torch.Generator().manual_seed(2)), 25, trainable_head)
    classifier = Classifier(adapted, head).train()
    before = {name: p.detach().clone() for name, p in classifier.named_parameters()}
    optimizer = torch.optim.SGD([p for p in classifier.parameters() if p.requires_grad], lr=0.1)
    torch.nn.functional.cross_entropy(classifier(images), torch.arange(8) % 3).backward()
    check_gradients(classifier.named_parameters())
    trains = {name for name, p in classifier.named_parameters() if p.requires_grad}
    assert all(float(p.grad.abs().sum()) > 0 for p in classifier.parameters() if p.grad is not None)
    assert {name for name, p in classifier.named_parameters() if p.grad is not None} == trains
    optimizer.step()
    changed = {name for name, p in classifier.named_parameters() if not torch.equal(p, before[name])}
    assert changed == trains
    assert ("head.weight" in trains) is trainable_head


def test_saved_adapters_bring_back_the_same_tower(
    load_clip: Callable[[], OpenClipVit], images: torch.Tensor, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe()
    adapted = add_lora(load_clip().visual, recipe)
    disturb(adapted)
    state = adapter_state(adapted)
    assert all("lora_" in name for name in state)
    again = add_lora(load_clip().visual, recipe)
    assert not torch.allclose(outputs(again, images), outputs(adapted, images), atol=1e-3)
    load_adapter(again, {name: tensor.clone() for name, tensor in state.items()})
    assert torch.equal(outputs(again, images), outputs(adapted, images))


def test_a_trainable_parameter_that_is_neither_adapter_nor_head_is_refused() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(BackendError, match=r"tower\.proj is trainable and is neither an adapter nor the head"):
        check_gradients([("tower.proj", parameter)])
    with pytest.raises(BackendError, match=r"head\.weight is trainable and received no gradient"):
        check_gradients([("head.weight", parameter)])
    parameter.requires_grad = False
    check_gradients([("tower.proj", parameter)])
