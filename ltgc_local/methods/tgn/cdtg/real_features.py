"""The real images that the generator is shown, and the tail network's maps of them: made once, where they fit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ltgc_local.backends.torch_device import to_device
from ltgc_local.methods.tgn.network import TailNetwork
from ltgc_local.training.images import ImageSet

MOST_BYTES = 256 * 1024**2  # kept on the device: all of the quickstart; of ResNet-50 at 256 px 256 images
BATCH = 64


def to_images(pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return uint8 pixels (B, 3, S, S) as images in [-1, 1], channels last, on a device."""
    return to_device(pixels, device).contiguous(memory_format=torch.channels_last).float() / 127.5 - 1


def mirror(images: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Mirror those images (B, 3, H, W) for which ``mirrored`` (B,) is true."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


class RealFeatures:
    """Maps (B, C, h, w) of a batch's real images, looked up or made anew.

    The network is frozen, so that an image has the same maps in every step; it is asked once a step otherwise.
    """

    def __init__(
        self, network: TailNetwork, data: ImageSet, flip: bool, autocast: torch.autocast, device: torch.device
    ) -> None:
        """Make the maps of all images and, with ``flip``, of their mirror images, unless they are too large to keep."""
        self._network, self._autocast, self._num = network, autocast, len(data)
        self._kept: torch.Tensor | None = None
        if network.training:  # by each batch's statistics (released code), so that maps depend on the batch
            return
        each = self._make(to_images(data.gather(np.arange(1)), device)).nbytes
        if each * len(data) * (1 + flip) <= MOST_BYTES:
            self._kept = torch.cat([self._make(images) for images in _all_images(data, flip, device)])

    def take(self, images: torch.Tensor, rows: np.ndarray, mirrored: torch.Tensor) -> torch.Tensor:
        """Return maps, float32, of images (B, 3, H, W): rows (B,), some of them ``mirrored`` (B,)."""
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
