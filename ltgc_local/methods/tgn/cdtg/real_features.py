"""The tail network's feature maps of the real images that the generator is shown: computed once if they fit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ltgc_local.backends.torch_device import to_device
from ltgc_local.methods.tgn.cdtg.pixels import to_images
from ltgc_local.methods.tgn.network import TailNetwork
from ltgc_local.training.images import ImageSet

MOST_BYTES = 256 * 1024**2  # kept on the device: the whole quickstart, or 256 images of ResNet-50 at 256 px
BATCH = 64


class RealFeatures:
    """Feature maps (B, C, h, w) of a batch's real images, looked up or computed anew.

    The network is frozen, so an image has the same maps in every step.
    """

    def __init__(
        self, network: TailNetwork, data: ImageSet, flip: bool, autocast: torch.autocast, device: torch.device
    ) -> None:
        """Compute the maps of all images and, with ``flip``, of their mirror images, unless they are too large."""
        self._network, self._autocast, self._num = network, autocast, len(data)
        self._kept: torch.Tensor | None = None
        if network.training:  # normalised by batch statistics (released code), so maps depend on the batch
            return
        each = self._make(to_images(data.gather(np.arange(1)), device)).nbytes
        if each * len(data) * (1 + flip) <= MOST_BYTES:
            self._kept = torch.cat([self._make(images) for images in _all_images(data, flip, device)])

    def take(self, images: torch.Tensor, rows: np.ndarray, mirrored: torch.Tensor) -> torch.Tensor:
        """Return maps, float32, of images (B, 3, H, W), which are rows (B,), some of them ``mirrored`` (B,)."""
        if self._kept is None:
            return self._make(images)
        return self._kept[to_device(torch.from_numpy(rows), mirrored.device) + self._num * mirrored]

    @torch.no_grad()
    def _make(self, images: torch.Tensor) -> torch.Tensor:
        with self._autocast:
            return self._network.features(images).float()


def _all_images(data: ImageSet, flip: bool, device: torch.device) -> Iterator[torch.Tensor]:
    """Yield every image in batches, then with ``flip`` every mirror image."""
    for is_mirrored in (False, True)[: 1 + flip]:
        for start in range(0, len(data), BATCH):
            images = to_images(data.gather(np.arange(start, min(start + BATCH, len(data)))), device)
            yield images.flip(-1) if is_mirrored else images
