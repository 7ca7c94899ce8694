"""Fine-tuning CLIP with LoRA and BalanceMix: our training against peft in a loop with a DataLoader and Pillow.

    python -m benchmarks.lora --device auto|cpu|cuda

On a CPU the miniature and Fashion-MNIST-LT's sizes, on a GPU ViT-B/32 and B/16 at 224 px with random weights, in bf16.
Same model, adapters (rank 16, MLP and attention), batch size, precision, optimiser, flips and pairs. The loop decodes,
resizes and flips each image of a pair in its worker, a worker a CPU, kept between epochs; ours decodes and resizes
once, which is timed apart. Figures count pairs: a pair is one image through the tower, and two decoded.
"""

from __future__ import annotations

import io
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.clip import MINIATURE, draw
from benchmarks.contest import Contender, Timing, time_in_turns
from benchmarks.machine import pick_device
from benchmarks.results import report
from ltgc_local.backends.clip.open_clip_vit import LORA_TARGETS
from ltgc_local.backends.clip.pixels import to_pixels
from ltgc_local.methods.ltgc.arm_data import ArmData
from ltgc_local.methods.ltgc.fine_tuning import FineTuning
from ltgc_local.prefetch import map_batches, num_cpus
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.training.classifier import Classifier, CosineHead
from ltgc_local.training.images import ImageSet
from ltgc_local.training.lora import add_lora
from ltgc_local.training.trainer import Trainer

MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


class Pairs(Dataset):  # type: ignore[type-arg]
    """Each original (of classes of one size) with a generated image at random, decoded and flipped by Pillow."""

    def __init__(self, original: list[bytes], generated: list[bytes], labels: np.ndarray, size: int) -> None:
        self.original, self.generated, self.labels = original, generated, labels
        self.transform = transforms.Compose(
            [
                transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(size),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.original)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, torch.Tensor, int]:
        other = int(torch.randint(len(self.generated), ()))
        one, two = (
            self.transform(Image.open(io.BytesIO(content)).convert("RGB"))
            for content in (self.original[index], self.generated[other])
        )
        return one, int(self.labels[index]), two, int(self.labels[other])


@dataclass(frozen=True)
class Stored:
    """Format and size of the square images on disk."""

    original: tuple[str, int]
    generated: tuple[str, int]

    def __str__(self) -> str:
        one, other = (f"{kind} of {size} px" for kind, size in (self.original, self.generated))
        return f"originals {one}, generated images {other}"


#: The quickstart's images, and real and generated images of the usual sizes.
SMALL, USUAL = Stored(("PNG", 28), ("PNG", 28)), Stored(("JPEG", 512), ("PNG", 256))


def recipe_of(batch_size: int, epochs: int, precision: str, **more: Any) -> LtgcRecipe:
    fields = {"batch_size": batch_size, "epochs": epochs, "precision": precision, "optimizer": "adamw", **more}
    data = {"benchmark": "fashion_mnist_lt", "root": Path(".")}
    models = {"cards": Path("."), "vlm": "none", "llm": "none", "t2i": "none", "clip": "none"}
    return LtgcRecipe.model_validate({"name": "benchmark", "data": data, "models": models, "train": fields})


def load(name: str) -> tuple[torch.nn.Module, int]:
    """Return a fresh vision tower and its input's size."""
    if name == "miniature":
        model = open_clip.create_model(f"local-dir:{MINIATURE}")
    else:
        model = open_clip.create_model(name, load_weights=False)
    return model.visual, int(model.visual.image_size[0])


def compare(
    name: str, device: str, number: int, batch_size: int, num_classes: int, rounds: int, stored: Stored
) -> tuple[list[Timing], str]:
    precision = "bf16" if device == "cuda" else "fp32"
    visual, size = load(name)
    original, generated = draw(*stored.original, number), draw(*stored.generated, max(64, number // 4))
    labels = np.arange(number) % num_classes
    texts = F.normalize(torch.randn(num_classes, int(visual.output_dim)), dim=-1)  # type: ignore[arg-type]

    loader = DataLoader(
        Pairs(original, generated, labels, size), batch_size, shuffle=True, drop_last=True, num_workers=num_cpus(),
        pin_memory=device == "cuda", persistent_workers=True,
    )  # fmt: skip
    recipe = recipe_of(batch_size, 1, precision)
    settings = recipe.train
    config = LoraConfig(
        r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=LORA_TARGETS["attention+mlp"]
    )
    model = Classifier(get_peft_model(load(name)[0], config), CosineHead(texts, 25, True)).to(device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def plain() -> None:
        model.train()
        for one, label, two, other in loader:
            lam = torch.distributions.Beta(1.0, 1.0).sample((len(one), 1)).to(device)
            one, two = one.to(device, non_blocking=True), two.to(device, non_blocking=True)
            images = lam.view(-1, 1, 1, 1) * one + (1 - lam.view(-1, 1, 1, 1)) * two
            targets = lam * F.one_hot(label, num_classes).to(device) + (1 - lam) * F.one_hot(other, num_classes).to(
                device
            )
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(images)
            loss = F.cross_entropy(logits.float(), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    still = transforms.Resize(size, transforms.InterpolationMode.BICUBIC)
    begun = time.perf_counter()

    def decode(encoded: list[bytes], labels: np.ndarray) -> ImageSet:
        def resize(image: Image.Image) -> Image.Image:
            return still(image.convert("RGB"))

        def pixels(block: Sequence[bytes]) -> np.ndarray:
            return to_pixels([Image.open(io.BytesIO(content)) for content in block], resize)

        batches = [encoded[start : start + 256] for start in range(0, len(encoded), 256)]
        blocks = [block for found in map_batches(pixels, batches, num_cpus(), "cpu") for block in found]
        return ImageSet((torch.from_numpy(np.concatenate(blocks)),), labels)

    sets = decode(original, labels), decode(generated, labels[: len(generated)])
    took, num_images = time.perf_counter() - begun, len(original) + len(generated)
    decoding = f"{took:.1f} s once, by {num_cpus()} threads, for {num_images} images"

    def training(compile_mode: str | None) -> Any:
        changed = recipe.model_copy(update={"train": settings.model_copy(update={"compile": compile_mode})})
        classifier = Classifier(add_lora(load(name)[0], changed, LORA_TARGETS), CosineHead(texts, 25, True)).to(device)

        def run() -> None:
            data = ArmData(changed.train, "balance_mix", *sets, num_classes, 0)
            data.steps_per_epoch = number // batch_size
            norm = tuple(torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
            Trainer(FineTuning(data, classifier, norm, device, lambda _: {"all": 0.0})).run()  # type: ignore[arg-type]

        return run

    contenders = {"peft, DataLoader, Pillow": plain, "ours": training(None)}
    if device == "cuda":
        contenders["ours, train.compile: default"] = training("default")
    items = number // batch_size * batch_size
    return time_in_turns({key: Contender(run, items) for key, run in contenders.items()}, device, rounds), decoding


@click.command()
@click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--rounds", default=3)
@click.option("--write/--no-write", default=True, help="Write benchmarks/results.")
def main(device: str, rounds: int, write: bool) -> None:
    """Fine-tune with LoRA and BalanceMix, by ours and by a peft loop."""
    device = pick_device(device)
    sizes = {"miniature": (1536, 128, 10)}
    kinds = [SMALL, USUAL]
    if device == "cuda":
        sizes = {"ViT-B-32": (10240, 256, 1000), "ViT-B-16": (10240, 256, 1000)}
        kinds = [USUAL]
    sections, facts = {}, {}
    for (name, (number, batch_size, num_classes)), stored in itertools.product(sizes.items(), kinds):
        title = f"{name}, batches of {batch_size} pairs, {stored}"
        sections[title], facts[f"decoding of ours, {name}, {stored}"] = compare(
            name, device, number, batch_size, num_classes, rounds, stored
        )
    weights = "random" if device == "cuda" else "miniature"
    command = f"python -m benchmarks.lora {' '.join(sys.argv[1:])}".strip()
    report("lora", device, sections, unit="pairs", weights=weights, command=command, facts=facts, write=write)


if __name__ == "__main__":
    main()
