"""Train the miniature CLIP (open_clip ViT) on the pool with captions as noisy as the web's.

    python -m miniatures.train_clip [--steps 2600]

CLIP's InfoNCE loss over image-caption pairs. A caption of the web rarely names the object exactly: here 50 % say only a
broader word ("a garment"), 22 % name a related class instead, and 28 % name the class. So zero-shot accuracy is well
above chance and leaves room for fine-tuning. Writes data/miniatures/clip.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from miniatures.attributes import BAGS, SHOES
from miniatures.captions import say, sentence
from miniatures.pool import CLASS_NAMES, WEIGHTS, load
from miniatures.tokenizers import build_clip_tokenizer

FOLDER = WEIGHTS / "clip"
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"}
#: classes that a careless caption confuses
RELATED = {0: (6, 2), 1: (3, 0), 2: (4, 6), 3: (6, 4), 4: (2, 6), 5: (7, 9), 6: (0, 4), 7: (9, 5), 8: (3, 9), 9: (7, 5)}


def model_config(vocab_size: int) -> dict[str, object]:
    return {
        "embed_dim": 96,
        "vision_cfg": {"image_size": 28, "patch_size": 4, "width": 96, "layers": 4, "head_width": 32, "mlp_ratio": 4.0},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": vocab_size,
            "width": 96,
            "heads": 3,
            "layers": 2,
            "hf_tokenizer_name": "tokenizer-of-this-folder",
        },
    }


def web_caption(values: dict[str, str], class_id: int, rng: random.Random) -> str:
    """Word an image the way the web does: vaguely (50 %), wrongly (22 %) or with its class (28 %)."""
    draw = rng.random()
    name = CLASS_NAMES[class_id]
    if draw < 0.50:
        name = "pair of shoes" if class_id in SHOES else "piece of luggage" if class_id in BAGS else "garment"
    elif draw < 0.72:
        name = CLASS_NAMES[rng.choice(RELATED[class_id])]
    features, scene = say(values, class_id, rng)
    features = rng.sample(features, rng.randint(0, 3))
    text = sentence(name, features, scene if rng.random() < 0.5 else "")
    return text.replace("of the class ", "of a ") if rng.random() < 0.5 else text


def shift(images: torch.Tensor, most: int = 2) -> torch.Tensor:
    """Move a batch (B, 1, H, W) by up to ``most`` pixels, the same way for all; what comes in is background (-1)."""
    down, right = torch.randint(-most, most + 1, (2,)).tolist()
    return F.pad(images, (right, -right, down, -down), value=-1.0)


def train(steps: int, batch: int = 128, lr: float = 1e-3) -> None:
    torch.manual_seed(2)
    rng = random.Random(2)
    FOLDER.mkdir(parents=True, exist_ok=True)
    tokenizer = build_clip_tokenizer(FOLDER)
    config = model_config(len(tokenizer))
    (FOLDER / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}, indent=1) + "\n"
    )
    model = open_clip.CLIP(
        embed_dim=config["embed_dim"], vision_cfg=config["vision_cfg"], text_cfg=config["text_cfg"]
    ).train()
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")
    pool = load("pool")
    pixels = torch.from_numpy(pool.images)[:, None].float() / 127.5 - 1  # (N, 1, 28, 28)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(1.0, (s + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * s / steps))
    )
    start = time.time()
    for step in range(steps):
        rows = torch.randint(len(pixels), (batch,))
        texts = [web_caption(pool.attributes[i], int(pool.labels[i]), rng) for i in rows.tolist()]
        ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        images, words, scale = model(shift(pixels[rows]).expand(-1, 3, -1, -1), ids)
        logits = scale * images @ words.T
        target = torch.arange(batch)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        model.logit_scale.data.clamp_(0, math.log(100))
        if step % 100 == 0:
            print(f"clip {step} loss {loss.item():.3f} {time.time() - start:.0f} s", flush=True)
    weights = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, FOLDER / "open_clip_model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.steps)
