"""Train the miniature vision-language model: Qwen2.5-VL's architecture, 1.5 M parameters, on the pool's pictures.

    python -m miniatures.train_vlm [--minutes 22] [--threads 1]

Writes data/miniatures/qwen2.5-vl. The vision tower is first warmed up alone: linear heads on its mean token name the
attributes and the class. Then the whole model learns to reply to Prompt 1, the heads' loss still added, at first with
many made-up names.
Differs from the publishers' model: patches of 4 pixels, and every block attends to the whole picture of 64 patches.
"""

from __future__ import annotations

import argparse
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from transformers import (
    AttentionInterface,
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from miniatures.attributes import VALUES
from miniatures.chat_tokenizer import CHAT_TEMPLATE, IMAGE, build_chat_tokenizer, render
from miniatures.conversations import FULL, PoolTable, Subject, describe_image, made_up_name, remind_of_image
from miniatures.pool import CLASS_NAMES, IMAGE_PX, WEIGHTS, Pictures, load
from miniatures.train_llm import Optimisers, pad_batch, weighted_loss

FOLDER = WEIGHTS / "qwen2.5-vl"
PATCH, MERGE = 4, 2
PATCHES = (IMAGE_PX // PATCH) ** 2  # of a picture: 64
IMAGE_TOKENS = PATCHES // MERGE**2  # 16
GRID = [1, IMAGE_PX // PATCH, IMAGE_PX // PATCH]
REMINDER_SHARE = 0.12
IGNORE = -100
WARM_UP = 0.35  # share of the time in which only the vision tower learns


def build_vlm(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """Build the untrained model; heads have 32 channels in both parts."""
    special = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.05,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 4,
        "hidden_size": 128,
        "intermediate_size": 224,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "window_size": IMAGE_PX,
        "fullatt_block_indexes": [0, 1, 2, 3],
        "out_hidden_size": 128,
        "initializer_range": 0.05,
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=special["image_pad"],
        video_token_id=special["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def build_processor(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLProcessor:
    """Build the processor, which brings a square picture of any size to 32x32."""
    settings = {
        "size": {"shortest_edge": IMAGE_PX**2, "longest_edge": IMAGE_PX**2},
        "patch_size": PATCH,
        "merge_size": MERGE,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    images, videos = Qwen2VLImageProcessor(**settings), Qwen2VLVideoProcessor(**settings)
    return Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=CHAT_TEMPLATE)


class Patches:
    """All pictures as the processor resizes them, patched a batch at a time: its pixel_values, without the memory."""

    def __init__(self, pictures: Pictures, processor: Qwen2_5_VLProcessor) -> None:
        plain = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
        chunks = []
        for i in range(0, len(pictures.images), 2048):
            rgb = np.repeat(pictures.images[i : i + 2048, None], 3, axis=1)
            values = processor.image_processor(list(torch.from_numpy(rgb)), **plain).pixel_values  # (N * 64, 3*2*4*4)
            chunks.append(values.view(-1, PATCHES, 6, PATCH * PATCH)[:, :, 0].to(torch.uint8))
        self.grey = torch.cat(chunks)  # (N, 64, 16)
        probe = processor.image_processor(list(torch.from_numpy(rgb[:2])), return_tensors="pt").pixel_values
        last = torch.arange(i, i + 2)
        if not torch.allclose(self(last), probe, atol=1e-5):
            raise RuntimeError("patches differ from the processor's pixel_values")

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return pixel_values (B * 64, 96) of some pictures."""
        grey = self.grey[rows].float() / 127.5 - 1
        return grey[:, :, None].expand(-1, -1, 6, -1).reshape(len(rows) * PATCHES, -1)


def whole_pictures(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Attend within each picture, all pictures at once: equal to the model's own loop over pictures, and faster."""
    split = [t.view(t.shape[1], -1, PATCHES, t.shape[-1]).transpose(0, 1) for t in (query, key, value)]  # (B, H, 64, D)
    out = F.scaled_dot_product_attention(*split, scale=scaling)
    return out.transpose(1, 2).reshape(1, -1, query.shape[1], query.shape[-1]), None


AttentionInterface.register("whole_pictures", whole_pictures)


class Heads(torch.nn.Module):
    """Linear heads that name attributes and class from the mean image token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.names = list(VALUES)
        self.outputs = torch.nn.ModuleList([torch.nn.Linear(width, len(v)) for v in [*VALUES.values(), CLASS_NAMES]])

    def targets(self, pictures: Pictures) -> torch.Tensor:
        """Return (N, attributes + 1): value indices, IGNORE where a class lacks the attribute, and the label."""
        rows = [[VALUES[n].index(a[n]) if n in a else IGNORE for n in self.names] for a in pictures.attributes]
        return torch.cat([torch.tensor(rows), torch.from_numpy(pictures.labels).long()[:, None]], 1)

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of all heads on image tokens (B, 16, D)."""
        pooled = tokens.mean(1)
        return (
            sum(
                F.cross_entropy(output(pooled), column, ignore_index=IGNORE, reduction="sum")
                for output, column in zip(self.outputs, targets.T, strict=True)
            )
            / (targets != IGNORE).sum()
        )


class Trainer:
    """The model with what its training steps need."""

    def __init__(self, batch: int, lr: float) -> None:
        self.pool, self.rng, self.batch = load("pool"), random.Random(2), batch
        self.tokenizer = build_chat_tokenizer(FOLDER, PoolTable(self.pool))
        self.processor = build_processor(self.tokenizer)
        self.patches = Patches(self.pool, self.processor)
        self.model = build_vlm(self.tokenizer).train()
        self.model.model.visual.config._attn_implementation = "whole_pictures"
        self.heads = Heads(self.model.config.text_config.hidden_size)
        self.targets = self.heads.targets(self.pool)
        self.optimisers = Optimisers(torch.nn.ModuleList([self.model, self.heads]), lr)
        self.image_text = IMAGE.replace("<|image_pad|>", "<|image_pad|>" * IMAGE_TOKENS)
        self.positions = self._positions(512)

    def _positions(self, length: int) -> torch.Tensor:
        """Return the position ids (3, 1, length) of every conversation: they all begin with the picture."""
        asked, _ = render(["", ""], self.image_text)
        ids = torch.tensor([self.tokenizer(asked).input_ids])
        ids = F.pad(ids, (0, length - ids.shape[1]), value=self.tokenizer.pad_token_id)
        kinds = (ids == self.model.config.image_token_id).int()
        self.first = int(kinds[0].argmax())  # where the image tokens begin
        return self.model.model.get_rope_index(ids, kinds, image_grid_thw=torch.tensor([GRID]))[0]

    def image_tokens(self, rows: torch.Tensor) -> torch.Tensor:
        """Run the vision tower: (B, 16, D)."""
        seams = torch.tensor([0, len(rows) * PATCHES], dtype=torch.int32)
        grid = torch.tensor([GRID] * len(rows))
        output = self.model.model.visual(self.patches(rows), grid_thw=grid, cu_seqlens=seams).pooler_output
        return output.view(len(rows), IMAGE_TOKENS, -1)

    def reply_loss(
        self, rows: torch.Tensor, tokens: torch.Tensor, made_up_share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss on conversations about pictures with image tokens (B, 16, D), and that of the replies."""
        kind = remind_of_image if self.rng.random() < REMINDER_SHARE else describe_image
        texts = []
        for row in rows.tolist():
            label = int(self.pool.labels[row])
            is_real = self.rng.random() >= made_up_share
            subject = Subject(CLASS_NAMES[label] if is_real else made_up_name(self.rng), label, is_real)
            texts.append(render(kind(subject, self.pool.attributes[row], self.rng), self.image_text))
        asked, replies = (self.tokenizer([t[i] for t in texts]).input_ids for i in (0, 1))
        ids, weights = pad_batch(list(zip(asked, replies, strict=True)), self.tokenizer.pad_token_id)
        language = self.model.model.language_model
        words = language.embed_tokens(ids)
        embeds = torch.cat([words[:, : self.first], tokens, words[:, self.first + IMAGE_TOKENS :]], 1)  # (B, T, D)
        positions = self.positions[:, :, : ids.shape[1]].expand(-1, len(ids), -1)
        hidden = language(inputs_embeds=embeds, position_ids=positions, use_cache=False).last_hidden_state
        return weighted_loss(self.model.lm_head, hidden, ids, weights)

    def run(self, minutes: float, steps: int | None) -> None:
        """Train for ``minutes``, or for ``steps`` where given."""
        start, step, progress, running = time.time(), 0, 0.0, torch.zeros(2)
        while progress < 1:
            is_warm = progress >= WARM_UP
            rows = torch.randint(len(self.targets), (self.batch,))
            tokens = self.image_tokens(rows)
            named = self.heads.loss(tokens, self.targets[rows])
            loss, said = named, torch.zeros(())
            if is_warm:
                made_up_share = max(FULL.made_up_share, 0.5 - (progress - WARM_UP))
                half = self.batch // 2  # the rest is only seen: text costs more than sight, and is learnt from less
                loss, said = self.reply_loss(rows[:half], tokens[:half], made_up_share)
                loss = loss + 0.3 * named
            loss.backward()
            self.optimisers.step(progress)
            step, running = step + 1, running + torch.stack([named.detach(), said])
            progress = step / steps if steps else (time.time() - start) / (60 * minutes)
            if step % 100 == 0:
                named_mean, said_mean = (running / 100).tolist()
                print(f"{step} heads {named_mean:.4f} replies {said_mean:.4f} {time.time() - start:.0f} s", flush=True)
                running.zero_()
            if step % 500 == 0:
                self.save()
        self.save()

    def save(self) -> None:
        """Write model, generation settings and processor, fp16 safetensors."""
        copied = build_vlm(self.tokenizer)
        copied.load_state_dict(self.model.state_dict())
        ends = [self.tokenizer.eos_token_id, self.tokenizer.convert_tokens_to_ids("<|endoftext|>")]
        copied.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=self.tokenizer.pad_token_id)
        copied.half().save_pretrained(FOLDER)
        self.processor.save_pretrained(FOLDER)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=22)
    parser.add_argument("--steps", type=int, help="train for so many steps instead of by the clock")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(2)
    Trainer(batch=64, lr=4e-3).run(arguments.minutes, arguments.steps)
