"""Scoring images from encoded bytes: ours against open_clip, as its page shows it and in a DataLoader with Pillow.

    python -m benchmarks.clip --device auto|cpu|cuda

On a CPU the miniature; on a GPU ViT-B/32 with random weights in bf16. Both are given the same bytes, class texts and
batch size, and the cosines of both are compared. open_clip's page encodes an image at a time, which is the baseline of
the ratios; the DataLoader has a worker a CPU and page-locked memory.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from benchmarks.contest import Contender, Timing, count_flop, time_in_turns
from benchmarks.machine import pick_device
from benchmarks.results import report
from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.backends.clip.pixels import to_pixels
from ltgc_local.backends.protocols import ModelOptions
from ltgc_local.prefetch import map_batches, num_cpus

MINIATURE = Path(__file__).resolve().parents[1] / "data/miniatures/clip"
CLASSES = 1000
LOOP_IMAGES = 64  # at most, of the loop of one image at a time


class EncodedImages(Dataset):  # type: ignore[type-arg]
    def __init__(self, encoded: list[bytes], preprocess: object) -> None:
        self.encoded, self.preprocess = encoded, preprocess

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(io.BytesIO(self.encoded[index])).convert("RGB")
        return self.preprocess(image)  # type: ignore[no-any-return, operator]


def draw(kind: str, size: int, number: int) -> list[bytes]:
    """Encode smooth images with a little grain, about as compressible as generated ones; a few, over and over."""
    rng, encoded = np.random.default_rng(0), []
    for _ in range(min(number, 64)):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=float)
        picture = Image.fromarray((smooth + rng.normal(0, 3, (size, size, 1))).clip(0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        picture.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {"compress_level": 6}))
        encoded.append(buffer.getvalue())
    return [encoded[i % len(encoded)] for i in range(number)]


def write_vit_b_32(folder: Path) -> Path:
    """Write ViT-B/32 with random weights in the layout of open_clip's own folders."""
    torch.manual_seed(0)
    config = open_clip.get_model_config("ViT-B-32")
    model = open_clip.create_model("ViT-B-32", load_weights=False)
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    return folder


WEIGHTS = "open_clip_model.safetensors"


def compare(clip: OpenClipVit, encoded: list[bytes], batch_size: int, rounds: int) -> tuple[list[Timing], float]:
    """Return the timings, and how far the cosines of the two lie apart at most."""
    device, dtype = clip.device, torch.bfloat16 if clip.device == "cuda" else torch.float32
    texts = F.normalize(torch.randn(CLASSES, clip.encode_images([Image.new("RGB", (8, 8))]).shape[1]), dim=-1)
    on_device = texts.to(device)

    @torch.inference_mode()
    def documented() -> torch.Tensor:
        parts = []
        for content in encoded[:LOOP_IMAGES]:
            image = clip.preprocess(Image.open(io.BytesIO(content)).convert("RGB")).unsqueeze(0)
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                features = clip.visual(image.to(device))
            parts.append((F.normalize(features.float(), dim=-1) @ on_device.T).cpu())
        return torch.cat(parts)

    loader = DataLoader(
        EncodedImages(encoded, clip.preprocess),
        batch_size,
        num_workers=num_cpus(),
        pin_memory=device == "cuda",
        persistent_workers=True,  # started once, not once a round
    )

    @torch.inference_mode()
    def plain() -> torch.Tensor:
        parts = []
        for images in loader:
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                features = clip.visual(images.to(device, non_blocking=True))
            parts.append(F.normalize(features.float(), dim=-1) @ on_device.T)
        return torch.cat(parts).cpu()

    def ours() -> torch.Tensor:
        batches = [encoded[start : start + batch_size] for start in range(0, len(encoded), batch_size)]

        def pixels(block: list[bytes]) -> np.ndarray:
            return to_pixels([Image.open(io.BytesIO(content)) for content in block], clip.resize)

        decoded = map_batches(pixels, batches, num_cpus(), device)  # type: ignore[arg-type]
        return torch.cat([clip.encode_pixels(torch.from_numpy(np.concatenate(blocks))) @ texts.T for blocks in decoded])

    flop = count_flop(lambda: clip.encode_images([Image.new("RGB", (8, 8))]))
    apart = float((plain() - ours()).abs().max())
    contenders = {
        "open_clip as documented, an image at a time": Contender(documented, min(LOOP_IMAGES, len(encoded)), flop),
        "open_clip, DataLoader, Pillow": Contender(plain, len(encoded), flop),
        "ours": Contender(ours, len(encoded), flop),
    }
    return time_in_turns(contenders, device, rounds), apart


@click.command()
@click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--images", default=0, help="Images a round; 0 takes 512 on a CPU and 16,384 on a GPU.")
@click.option("--rounds", default=3)
@click.option("--write/--no-write", default=True, help="Write benchmarks/results.")
def main(device: str, images: int, rounds: int, write: bool) -> None:
    """Score images from encoded bytes, by ours and by a plain loop."""
    device = pick_device(device)
    is_gpu = device == "cuda"
    number, batch_size = images or (16384 if is_gpu else 512), 256 if is_gpu else 64
    kinds = {"JPEG of 512 px": ("JPEG", 512), "PNG of 512 px": ("PNG", 512), "PNG of 256 px": ("PNG", 256)}
    with tempfile.TemporaryDirectory() as folder:
        clip = OpenClipVit(write_vit_b_32(Path(folder)) if is_gpu else MINIATURE, ModelOptions(device=device))
    sections, apart = {}, {}
    for title, (kind, size) in (kinds if is_gpu else {"PNG of 28 px": ("PNG", 28), **kinds}).items():
        number_of_kind = number // 4 if (kind == "PNG" and size == 512) or (not is_gpu and size > 28) else number
        sections[title], apart[title] = compare(clip, draw(kind, size, number_of_kind), batch_size, rounds)
    facts = {"batch size": batch_size, "classes": CLASSES}
    facts |= {f"cosines of the two apart at most, {title}": f"{value:.1e}" for title, value in apart.items()}
    command = f"python -m benchmarks.clip {' '.join(sys.argv[1:])}".strip()
    weights = "random" if is_gpu else "miniature"
    report("clip", device, sections, unit="images", weights=weights, command=command, facts=facts, write=write)


if __name__ == "__main__":
    main()
