"""The judge: a small convolutional network trained on the full official train set, independent of every miniature.

    python -m miniatures.judge [--epochs 5]

It only measures: which class does a drawn image look like? It sees no generated image and chooses nothing. It has seen
the long tail and the validation images (they are part of the official train set), so it must never be used to select.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from miniatures.pool import WEIGHTS, load

PATH = WEIGHTS / "judge" / "judge.safetensors"


def build_judge() -> nn.Sequential:
    """Build the network: grey images (B, 1, 28, 28) in [-1, 1] -> logits (B, 10)."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(1, 24), *block(24, 24), nn.MaxPool2d(2),
        *block(24, 48), *block(48, 48), nn.MaxPool2d(2),
        *block(48, 96), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(96, 10),
    )  # fmt: skip


def to_input(images: np.ndarray) -> torch.Tensor:
    """Turn (N, 28, 28) uint8 into the judge's input."""
    return torch.from_numpy(images)[:, None].float() / 127.5 - 1


@torch.no_grad()
def judge(images: np.ndarray) -> np.ndarray:
    """Return the class that the shipped judge gives each of (N, 28, 28) uint8 images."""
    network = build_judge()
    network.load_state_dict(load_file(PATH))
    network.eval()
    return torch.cat([network(part).argmax(1) for part in to_input(images).split(1000)]).numpy()


def train(epochs: int, batch: int = 128) -> None:
    torch.manual_seed(3)
    official = load("official_train")
    pixels, labels = to_input(official.images), torch.from_numpy(official.labels)
    network = build_judge().to(memory_format=torch.channels_last)
    steps = epochs * (len(labels) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    start = time.time()
    for epoch in range(epochs):
        for rows in torch.randperm(len(labels))[: len(labels) // batch * batch].view(-1, batch):
            images = pixels[rows]
            flip = torch.rand(len(rows)) < 0.5
            images[flip] = images[flip].flip(-1)
            loss = F.cross_entropy(network(images.contiguous(memory_format=torch.channels_last)), labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"judge epoch {epoch} loss {loss.item():.3f} {time.time() - start:.0f} s", flush=True)
    PATH.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, PATH)
    test = load("official_test")
    print(f"judge: {100 * (judge(test.images) == test.labels).mean():.2f} % of the official test images")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.epochs)
