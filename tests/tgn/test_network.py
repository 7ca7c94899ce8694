"""timm's networks with local weights, as files, and the tail network as the generator uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ltgc_local.backends.protocols import BackboneOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.backends.timm_backbone import TimmBackbone
from ltgc_local.errors import ArtefactError, ModelError
from ltgc_local.methods.tgn.network import Network, SquareResize, TailNetwork, build_network, load_network
from ltgc_local.recipe.tgn import Kmdn
from ltgc_local.runs.files import write_atomically

SMALL = Kmdn(architecture="test_resnet", stem="no_pool", size_px=32)


def load(folder: Path | None, architecture: str, num_classes: int, **more: Any) -> TimmBackbone:
    options = BackboneOptions(architecture=architecture, num_classes=num_classes, **more)
    backbone: TimmBackbone = load_model("backbone", "timm", folder, options)
    return backbone


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def write_weights(folder: Path, architecture: str = "test_resnet", **config: object) -> dict[str, torch.Tensor]:
    """Write a folder as timm's own, of random weights; return them."""
    weights = timm.create_model(architecture, pretrained=False).state_dict()
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": architecture, "num_classes": 1000, **config}))
    return weights


@pytest.mark.parametrize(
    ("architecture", "feature", "shape"),
    [
        ("test_resnet", "layer3", (4, 192, 2, 2)),
        ("resnet10t", "layer2", (4, 128, 4, 4)),
        ("test_vit", None, (4, 64, 2, 2)),
        ("test_convnext", "stages.1", (4, 32, 4, 4)),
    ],
)
def test_any_network_of_timm_gives_logits_and_a_stages_maps(
    architecture: str, feature: str | None, shape: tuple[int, ...]
) -> None:
    size = {"test_vit": 160}.get(architecture, 32)
    network = load(None, architecture, 5, feature=feature).eval()
    batch = torch.rand(4, 3, size, size)
    logits, maps = network(batch)
    assert logits.shape == (4, 5) and maps.ndim == 4
    if size == 32:
        assert maps.shape == shape
    assert torch.allclose(logits, network.network(batch), atol=1e-5)
    assert torch.allclose(maps, network.maps(batch), atol=1e-5)


def test_resnet_50s_layer3_is_1024_maps_of_a_sixteenth() -> None:
    network = load(None, "resnet50", 12, feature="layer3").eval()
    assert network.maps(torch.rand(1, 3, 64, 64)).shape == (1, 1024, 4, 4)


@pytest.mark.parametrize(("stem", "side"), [("full", 2), ("no_pool", 4), ("small", 8)])
def test_a_smaller_stem_keeps_more_of_a_small_image(stem: str, side: int, images: torch.Tensor) -> None:
    assert load(None, "test_resnet", 3, feature="layer3", stem=stem)(images)[1].shape[-1] == side


def test_weights_come_from_the_folder_and_the_last_layer_is_fresh(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "w")
    network = load(tmp_path / "w", "test_resnet", 7, feature="layer3").network
    found = network.state_dict()
    assert found["fc.weight"].shape == (7, 96)
    assert all(torch.equal(found[name], weights[name]) for name in weights if not name.startswith("fc."))


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    write_weights(tmp_path)
    with pytest.raises(ModelError, match="weights of 'test_resnet', but the recipe's architecture is 'resnet10t'"):
        load(tmp_path, "resnet10t", 3)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["layer2.0.downsample.1.weight"]  # a projection shortcut, which the released code leaves at random
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 weights of test_resnet are missing .*such as layer2\.0\.downsample"):
        load(tmp_path, "test_resnet", 3)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json"):
        load(tmp_path, "test_resnet", 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "resnet5O"}, r"timm has no network 'resnet5O'; closest: .*resnet50"),
        ({"architecture": "test_resnet", "feature": "layer9"}, r"no stage 'layer9'; its stages: act1, layer1"),
        ({"architecture": "test_vit", "stem": "small"}, "stem 'small' is for ResNets"),
    ],
)
def test_networks_stages_and_stems_that_there_are_not(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(None, num_classes=3, **options)  # type: ignore[arg-type]


def test_the_normalisation_is_half_or_the_weights_own(tmp_path: Path) -> None:
    write_weights(tmp_path, pretrained_cfg={"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]})
    half = load(tmp_path, "test_resnet", 3, normalisation="half")
    assert (half.mean, half.std) == ((0.5,) * 3, (0.5,) * 3)
    own = load(tmp_path, "test_resnet", 3, normalisation="weights")
    assert (own.mean, own.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert load(None, "resnet50", 3, normalisation="weights").mean == (0.485, 0.456, 0.406)


def test_a_network_is_the_same_after_writing_and_loading(tmp_path: Path, images: torch.Tensor) -> None:
    network = build_network(SMALL, 6, "layer3", None)
    network.backbone.train()(images)  # changes the running statistics
    network.backbone.eval()
    path = tmp_path / "tail.safetensors"
    write_atomically(network.to_file("tail"), path)
    loaded = load_network(path)
    assert (loaded.size_px, loaded.mean, loaded.backbone.facts) == (32, (0.5, 0.5, 0.5), network.backbone.facts)
    for one, other in zip(network.backbone(images), loaded.backbone(images), strict=True):
        assert torch.equal(one, other)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtefactError, match="damaged"):
        load_network(path)


def tail_network(**changes: object) -> TailNetwork:
    torch.manual_seed(0)
    network = build_network(SMALL, 6, "layer3", None)
    return TailNetwork(Network(network.backbone, *(changes.get(k, (0.5,) * 3) for k in ("mean", "std")), 32))  # type: ignore[arg-type]


def test_gradients_reach_the_images_and_no_weight(images: torch.Tensor) -> None:
    tail = tail_network()
    images.requires_grad_()
    logits, maps = tail(images)
    (logits.sum() + maps.sum()).backward()
    assert images.grad is not None and float(images.grad.abs().sum()) > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in tail.parameters())


def test_images_from_minus_one_to_one_are_normalised_as_in_training(images: torch.Tensor) -> None:
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    tail = tail_network(mean=mean, std=std)
    as_trained = ((images + 1) / 2 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    assert torch.allclose(tail(images)[0], tail.backbone(as_trained)[0])
    assert torch.equal(tail.features(images), tail(images)[1])


def test_it_stays_in_eval_mode_unless_the_batchs_statistics_are_asked_for(images: torch.Tensor) -> None:
    tail = tail_network()
    alone = tail(images[:1])[0]
    tail.train()
    assert torch.allclose(tail(images)[0][:1], alone, atol=1e-5)  # the rest of the batch changes nothing
    tail.use_batch_statistics()
    assert not torch.allclose(tail(images)[0][:1], alone, atol=1e-3)


def test_images_become_square_and_rgb() -> None:
    shown = SquareResize(16)(Image.new("L", (30, 10), 128))
    assert (shown.size, shown.mode) == ((16, 16), "RGB")
