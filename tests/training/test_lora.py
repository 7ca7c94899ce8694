"""LoRA on both families of CLIP: what it adapts, that it starts as the identity, and that merging is exact."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.backends.protocols import ClipModel
from ltgc_local.errors import BackendError, ModelError
from ltgc_local.recipe import Recipe
from ltgc_local.training.classifier import Classifier, CosineHead
from ltgc_local.training.lora import adapter_state, add_lora, average, check_gradients, load_adapter, merge

MakeRecipe = Callable[..., Recipe]
LoadClip = Callable[[], ClipModel]
TARGETS = ["attention", "attention+mlp"]


def disturb(adapted: torch.nn.Module, seed: int = 1) -> None:
    """Move the adapters away from the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.02, generator=generator)


def adapt(clip: ClipModel, recipe: Recipe) -> torch.nn.Module:
    return add_lora(clip.visual, recipe, clip.lora_targets)


def outputs(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(images)


def classifier_on(clip: ClipModel, recipe: Recipe) -> Classifier:
    texts = clip.encode_texts(["a bag", "a coat", "a shirt"])
    return Classifier(adapt(clip, recipe), CosineHead(texts, 25, recipe.train.head == "text"))


def backward(classifier: Classifier, images: torch.Tensor) -> None:
    torch.nn.functional.cross_entropy(classifier.train()(images), torch.arange(8) % 3).backward()


@pytest.mark.parametrize("targets", TARGETS)
def test_averaged_adapters_change_the_tower_by_the_average_of_their_changes(
    load_clip: LoadClip, make_recipe: MakeRecipe, targets: str
) -> None:
    recipe = make_recipe("train.lora_rank=4", "train.lora_alpha=2", f"train.lora_targets={targets}")
    states, merged = [], []
    for seed in (1, 2, 3):
        adapted = adapt(load_clip(), recipe)
        disturb(adapted, seed)
        states.append(adapter_state(adapted))
        merged.append(merge(adapted).state_dict())
    soup = adapt(load_clip(), make_recipe("train.lora_rank=12", "train.lora_alpha=6", f"train.lora_targets={targets}"))
    load_adapter(soup, {name: average([state[name] for state in states], name) for name in states[0]})
    for name, found in merge(soup).state_dict().items():
        assert torch.allclose(found, sum(each[name] for each in merged) / 3, atol=1e-6), name


@pytest.mark.parametrize("targets", TARGETS)
def test_at_the_start_the_adapted_tower_is_the_frozen_one(
    any_clip: ClipModel, images: torch.Tensor, make_recipe: MakeRecipe, targets: str
) -> None:
    before = outputs(any_clip.visual, images)
    adapted = adapt(any_clip, make_recipe(f"train.lora_targets={targets}"))
    assert torch.allclose(outputs(adapted, images), before, atol=1e-5)


@pytest.mark.parametrize("targets", TARGETS)
def test_after_training_the_merged_plain_model_gives_the_same_logits(
    load_any_clip: LoadClip, images: torch.Tensor, make_recipe: MakeRecipe, targets: str, tmp_path: Path
) -> None:
    # Logits are up to 25 in size, and float32 rounds at 1e-7 of that a layer: 1e-3 is far below what training changed.
    recipe = make_recipe(f"train.lora_targets={targets}", "train.lora_alpha=32")
    classifier = classifier_on(load_any_clip(), recipe)
    before = outputs(classifier, images)
    optimizer = torch.optim.AdamW([p for p in classifier.parameters() if p.requires_grad], lr=0.003)
    for _ in range(3):
        optimizer.zero_grad()
        backward(classifier, images)
        optimizer.step()
    unmerged = outputs(classifier, images)
    assert (unmerged - before).abs().max() > 0.1
    merged = merge(copy.deepcopy(classifier.tower))
    assert {name for name, _ in merged.named_parameters()} == {n for n, _ in load_any_clip().visual.named_parameters()}
    assert torch.allclose(outputs(Classifier(merged, classifier.head), images), unmerged, atol=1e-3)
    assert torch.equal(outputs(classifier, images), unmerged)  # the copy was merged, not this
    # And the adapters, saved and loaded on a fresh tower, merged or not:
    save_file(adapter_state(classifier.tower), tmp_path / "adapter.safetensors")
    again = adapt(load_any_clip(), recipe)
    load_adapter(again, load_file(tmp_path / "adapter.safetensors"))
    assert torch.equal(outputs(Classifier(again, classifier.head), images), unmerged)
    assert torch.allclose(outputs(Classifier(merge(again), classifier.head), images), unmerged, atol=1e-3)


def test_each_projection_gets_its_update_once(clip: OpenClipVit, images: torch.Tensor, make_recipe: MakeRecipe) -> None:
    # By hand: W + (alpha / rank) * B A in all four projections of every block. (peft adds out_proj's twice.)
    by_hand = copy.deepcopy(clip.visual)
    adapted = adapt(clip, make_recipe("train.lora_rank=4", "train.lora_alpha=8"))
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


@pytest.mark.parametrize(
    # A block of open_clip has in_proj and out_proj, one of transformers q, k, v and out; each MLP has two layers.
    ("targets", "adapters_a_block"),
    [("attention", {"resblocks": 2, "layers": 4}), ("attention+mlp", {"resblocks": 4, "layers": 6})],
)
def test_every_block_is_adapted_and_nothing_else_trains(
    any_clip: ClipModel, make_recipe: MakeRecipe, targets: str, adapters_a_block: dict[str, int]
) -> None:
    blocks, num_blocks = ("resblocks", 4) if isinstance(any_clip, OpenClipVit) else ("layers", 3)
    adapted = adapt(any_clip, make_recipe(f"train.lora_targets={targets}", "train.lora_rank=4"))
    trainable = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trainable)
    assert {p.shape[0] for name, p in trainable.items() if "lora_A" in name} == {4}
    assert len(trainable) == num_blocks * 2 * adapters_a_block[blocks]  # an adapter is an A and a B
    for block in range(num_blocks):
        assert sum(f"{blocks}.{block}." in name for name in trainable) == 2 * adapters_a_block[blocks]


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("head", ["text", "frozen_text"])
def test_a_step_changes_adapters_and_head_alone_and_all_of_them(
    any_clip: ClipModel, images: torch.Tensor, make_recipe: MakeRecipe, targets: str, head: str
) -> None:
    recipe = make_recipe(f"train.lora_targets={targets}", f"train.head={head}")
    classifier = classifier_on(any_clip, recipe)
    disturb(classifier.tower)  # at the start B = 0, so that A's gradient would be 0
    before = {name: p.detach().clone() for name, p in classifier.named_parameters()}
    optimizer = torch.optim.SGD([p for p in classifier.parameters() if p.requires_grad], lr=0.1)
    backward(classifier, images)
    check_gradients(classifier, recipe.train)
    trains = {name for name, p in classifier.named_parameters() if p.requires_grad}
    assert all(float(p.grad.abs().sum()) > 0 for p in classifier.parameters() if p.grad is not None)
    assert {name for name, p in classifier.named_parameters() if p.grad is not None} == trains
    optimizer.step()
    changed = {name for name, p in classifier.named_parameters() if not torch.equal(p, before[name])}
    assert changed == trains
    assert ("head.weight" in trains) is (head == "text")


def test_what_trains_and_is_not_meant_to_is_named(
    any_clip: ClipModel, images: torch.Tensor, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe()
    classifier = classifier_on(any_clip, recipe)
    name, parameter = next((n, p) for n, p in classifier.tower.named_parameters() if "lora_" not in n)
    parameter.requires_grad_(True)
    backward(classifier, images)
    with pytest.raises(BackendError, match=rf"should not train but is trainable: tower\.{name} \(1\)"):
        check_gradients(classifier, recipe.train)


def test_an_adapter_that_is_frozen_or_gets_no_gradient_is_named(
    any_clip: ClipModel, images: torch.Tensor, make_recipe: MakeRecipe
) -> None:
    recipe = make_recipe()
    classifier = classifier_on(any_clip, recipe)
    first, second = [n for n, _ in classifier.named_parameters() if "lora_B" in n][:2]
    classifier.get_parameter(first).requires_grad_(False)
    backward(classifier, images)
    classifier.get_parameter(second).grad = None
    with pytest.raises(BackendError) as raised:
        check_gradients(classifier, recipe.train)
    assert f"should train but is frozen: {first} (1)" in str(raised.value)
    assert f"should train but has no gradient: {second} (1)" in str(raised.value)


def test_a_head_that_trains_against_the_recipe_and_a_tower_without_adapters_are_refused(
    clip: OpenClipVit, images: torch.Tensor, make_recipe: MakeRecipe
) -> None:
    classifier = classifier_on(clip, make_recipe())
    backward(classifier, images)
    with pytest.raises(BackendError, match=r"should not train but is trainable: head\.weight"):
        check_gradients(classifier, make_recipe("train.head=frozen_text").train)
    plain = Classifier(merge(classifier.tower).requires_grad_(False), classifier.head)
    backward(plain, images)
    with pytest.raises(BackendError, match="no adapter in: tower"):
        check_gradients(plain, make_recipe().train)


def test_a_tower_without_the_blocks_that_lora_adapts_is_an_error_of_the_model(make_recipe: MakeRecipe) -> None:
    with pytest.raises(ModelError, match=r"LoRA does not fit the vision tower of models\.clip"):
        add_lora(torch.nn.Sequential(torch.nn.Linear(2, 2)), make_recipe(), {"attention+mlp": r"blocks\.\d+"})


def test_dropout_is_on_the_adapters_inputs_alone_and_in_training_alone(
    any_clip: ClipModel, images: torch.Tensor, make_recipe: MakeRecipe
) -> None:
    before = outputs(any_clip.visual, images)
    adapted = adapt(any_clip, make_recipe("train.lora_dropout=0.5"))
    with torch.no_grad():
        assert torch.allclose(adapted.train()(images), before, atol=1e-4)  # B is 0: what is dropped does not matter
    disturb(adapted)
    steady = outputs(adapted, images)
    assert torch.equal(outputs(adapted, images), steady)
    with torch.no_grad():
        one, other = (adapted.train()(images) for _ in range(2))
    assert (one - other).abs().max() > 1e-3
    assert (one - steady).abs().max() > 1e-3


@pytest.mark.parametrize("targets", TARGETS)
def test_attention_with_dropout_is_the_merged_attention_where_nothing_is_dropped(
    load_clip: Callable[[], OpenClipVit], images: torch.Tensor, make_recipe: MakeRecipe, targets: str
) -> None:
    found = []
    for dropout in ("0", "1e-12"):  # the merged weights' way, and the adapters' own
        classifier = classifier_on(
            load_clip(), make_recipe(f"train.lora_targets={targets}", f"train.lora_dropout={dropout}")
        )
        disturb(classifier.tower)
        backward(classifier, images)
        grads = {n: p.grad.clone() for n, p in classifier.named_parameters() if p.grad is not None}
        found.append((classifier(images).detach(), grads))
    (merged, merged_grads), (dropped, dropped_grads) = found
    assert torch.allclose(merged, dropped, atol=1e-3)
    assert merged_grads.keys() == dropped_grads.keys()
    assert all(torch.allclose(merged_grads[n], dropped_grads[n], rtol=1e-2, atol=1e-4) for n in merged_grads)


def test_gradient_checkpointing_changes_no_gradient(
    load_any_clip: LoadClip, images: torch.Tensor, make_recipe: MakeRecipe
) -> None:
    found = []
    for enable in (False, True):
        clip = load_any_clip()
        clip.visual.set_grad_checkpointing(enable)
        torch.manual_seed(0)
        classifier = classifier_on(clip, make_recipe())
        disturb(classifier.tower)
        calls = count_forward_calls(classifier)
        backward(classifier, images)
        found.append(({n: p.grad for n, p in classifier.named_parameters() if p.grad is not None}, calls()))
    (plain, calls), (checkpointed, calls_again) = found
    assert calls_again == 2 * calls  # the blocks ran again in the backward pass
    assert plain.keys() == checkpointed.keys()
    assert all(torch.allclose(plain[name], checkpointed[name], rtol=1e-4, atol=1e-6) for name in plain)


def count_forward_calls(classifier: Classifier) -> Callable[[], int]:
    """Count how often the first block's first MLP layer runs."""
    calls: list[int] = []
    layer = next(m for n, m in classifier.named_modules() if n.endswith(("mlp.c_fc", "mlp.fc1")))
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    return lambda: len(calls)


BLOCKS = {"OpenClipVit": 4, "TransformersClip": 3}


def block_outputs(classifier: Classifier) -> list[bool]:
    """Return a list to which each block's forward pass adds whether autograd follows its output."""
    seen: list[bool] = []
    for name, module in classifier.named_modules():
        if re.search(r"(resblocks|layers)\.\d+$", name):
            module.register_forward_hook(
                lambda _, __, out: seen.append((out[0] if isinstance(out, tuple) else out).requires_grad)
            )
    return seen


def forward_and_what_it_keeps(classifier: Classifier, images: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the logits, and how many numbers the backward pass is kept."""
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        return classifier.train()(images), sum(kept)


@pytest.mark.parametrize("num_blocks", [1, 2])
@pytest.mark.parametrize("targets", TARGETS)
def test_with_adapters_in_the_last_blocks_the_ones_below_run_without_autograd_and_the_gradients_are_the_same(
    load_any_clip: LoadClip, images: torch.Tensor, make_recipe: MakeRecipe, num_blocks: int, targets: str
) -> None:
    found = []
    for options in ((), (f"train.lora_blocks={num_blocks}",)):
        torch.manual_seed(0)
        clip = load_any_clip()
        classifier = classifier_on(clip, make_recipe(f"train.lora_targets={targets}", *options))
        with torch.no_grad():  # the lower blocks' adapters stay the identity, the others are moved alike
            for name, parameter in classifier.named_parameters():
                if "lora_" in name:
                    above = int(re.findall(r"\d+", name)[0]) >= BLOCKS[type(clip).__name__] - num_blocks
                    parameter.copy_(torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter) * above)
        followed = block_outputs(classifier)
        logits, kept = forward_and_what_it_keeps(classifier, images)
        torch.nn.functional.cross_entropy(logits, torch.arange(8) % 3).backward()
        grads = {name: p.grad for name, p in classifier.named_parameters() if p.requires_grad}
        found.append((logits.detach(), grads, followed, kept))
    (whole, all_grads, _, kept_by_all), (top, grads, followed, kept_by_top) = found
    assert followed == [False] * (len(followed) - num_blocks) + [True] * num_blocks
    assert len(followed) == BLOCKS[type(clip).__name__]
    assert kept_by_top < kept_by_all * (num_blocks + 1) / len(followed)  # what backward needs: one block and some
    assert torch.equal(top, whole)
    assert set(grads) < set(all_grads)
    assert all(torch.equal(grads[name], all_grads[name]) for name in grads)


def test_more_blocks_than_the_tower_has_are_an_error_that_says_what_to_type(
    any_clip: ClipModel, make_recipe: MakeRecipe
) -> None:
    blocks = BLOCKS[type(any_clip).__name__]
    with pytest.raises(ModelError, match=rf"has {blocks} blocks; type --set train\.lora_blocks={blocks}"):
        adapt(any_clip, make_recipe("train.lora_blocks=9"))
