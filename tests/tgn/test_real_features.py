"""The real images' feature maps: cached ones equal the tail network's, and those that do not fit are computed anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ltgc_local.methods.tgn.cdtg import real_features
from ltgc_local.methods.tgn.cdtg.pixels import mirror, to_images
from ltgc_local.methods.tgn.cdtg.real_features import RealFeatures
from ltgc_local.methods.tgn.network import TailNetwork
from tests.tgn.cdtg_parts import build_tail_network, real_images

ROWS = np.array([5, 0, 23, 5, 11])
MIRRORED = torch.tensor([True, False, True, False, False])
CPU = torch.device("cpu")


def features_of(network: TailNetwork, flip: bool = True) -> RealFeatures:
    return RealFeatures(network, real_images(), flip, torch.autocast("cpu", enabled=False), CPU)


def count_calls(network: TailNetwork, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of images whenever the network is asked for maps."""
    asked: list[int] = []
    plain = network.features

    def features(images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return plain(images)

    monkeypatch.setattr(network, "features", features)
    return asked


def test_kept_maps_are_those_of_the_image_or_of_its_mirror_image(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_tail_network()
    features = features_of(network)
    images = mirror(to_images(real_images().gather(ROWS), CPU), MIRRORED)
    expected = network.features(images)
    asked = count_calls(network, monkeypatch)
    found = features.take(images, ROWS, MIRRORED)
    assert torch.allclose(found, expected, atol=1e-5)
    assert asked == [] and not found.requires_grad
    plain = features.take(images, ROWS, torch.zeros(5, dtype=torch.bool))
    assert [torch.allclose(a, b, atol=1e-5) for a, b in zip(plain, expected, strict=True)] == (~MIRRORED).tolist()


def test_without_flips_no_mirror_image_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_tail_network()
    asked = count_calls(network, monkeypatch)
    features_of(network, flip=False)
    assert sum(asked) == 1 + len(real_images())  # one of them to know how large its maps are


@pytest.mark.parametrize("why", ["too large", "batch statistics"])
def test_maps_that_cannot_be_kept_are_made_of_each_batch(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_tail_network()
    if why == "too large":
        monkeypatch.setattr(real_features, "MOST_BYTES", 1000)
    else:
        network.use_batch_statistics()
    asked = count_calls(network, monkeypatch)
    features = features_of(network)
    assert asked == ([1] if why == "too large" else [])
    images = to_images(real_images().gather(ROWS), CPU)
    found = features.take(images, ROWS, MIRRORED)
    assert asked[-1] == 5 and torch.allclose(found, network.features(images), atol=1e-4)
