"""Train the miniature language model: Qwen3's architecture, 0.8 M parameters, on conversations about the pool.

    python -m miniatures.train_llm [--minutes 18] [--threads 1]
    python -m miniatures.train_llm --resume [--minutes 6]

Both write data/miniatures/qwen3; the second goes on from the first one's weights, mostly with Prompt 3, the hardest.
Differs from the usual recipe: the question's tokens have a loss too, at a lower weight, and training begins with short
lists and many made-up names; without these it learns the real names by heart instead of copying. Matrices are trained
with Muon, which needs fewer steps than AdamW at this size.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import GenerationConfig, Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

from miniatures.chat_tokenizer import build_chat_tokenizer, render
from miniatures.conversations import TASKS, Level, PoolTable, Task, repetition
from miniatures.pool import WEIGHTS, load

FOLDER = WEIGHTS / "qwen3"
TOKENS = 4096  # a batch's size, padding included
SHARPNESS = 1.75  # of q_norm and k_norm at the start: from 1 on, logits reach only sqrt(32), too flat to copy a token
QUESTION_WEIGHT = 0.25  # of a question's token in the loss; a reply's has 1


def build_llm(tokenizer: Qwen2Tokenizer) -> Qwen3ForCausalLM:
    """Build the untrained model. Heads have 32 channels: the least that vLLM's CPU backend takes."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            torch.nn.init.constant_(weight, SHARPNESS)
    return model


class Optimisers:
    """Muon for the layers' matrices, AdamW for embeddings, norms and biases, one learning rate schedule."""

    def __init__(self, model: torch.nn.Module, lr: float) -> None:
        matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "outputs" not in n]
        chosen = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in chosen]
        self.parameters = matrices + others
        muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw", ns_steps=4)
        adamw = torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=(0.9, 0.98))
        self.parts: list[torch.optim.Optimizer] = [muon, adamw]
        self.lr = lr

    def step(self, progress: float) -> None:
        """Take one step; ``progress`` 0..1 sets the rate: 2 % warm-up, level, the last 60 % linear to zero."""
        rate = self.lr * min(1.0, progress / 0.02 + 0.02, (1 - progress) / 0.6)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = max(rate, 0.0)
            part.step()
            part.zero_grad(set_to_none=True)


def pad_batch(rows: list[tuple[list[int], list[int]]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids (B, T) padded at the right, and weights (B, T): how much the prediction after each token counts."""
    longest = max(len(asked) + len(reply) for asked, reply in rows)
    ids = torch.full((len(rows), longest), pad)
    weights = torch.zeros(len(rows), longest)
    for i, (asked, reply) in enumerate(rows):
        ids[i, : len(asked) + len(reply)] = torch.tensor(asked + reply)
        weights[i, : len(asked) - 1] = QUESTION_WEIGHT
        weights[i, len(asked) - 1 : len(asked) + len(reply) - 1] = 1.0
    return ids, weights


def weighted_loss(
    lm_head: torch.nn.Module, hidden: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted mean loss of predicting each next token from hidden (B, T, D), and the replies' alone."""
    wanted = weights > 0
    weight = weights[wanted]
    losses = F.cross_entropy(lm_head(hidden[wanted]), ids.roll(-1, 1)[wanted], reduction="none")
    return (losses * weight).sum() / weight.sum(), losses.detach()[weight == 1].mean()


def level_at(progress: float) -> Level:
    """Return how hard the conversations are at ``progress`` (0..1): full at the half."""
    grown = min(1.0, 2 * progress)
    return Level(longest=round(3 + 13 * grown), made_up_share=0.6 - 0.4 * grown)


def batches(
    table: PoolTable, tokenizer: Qwen2Tokenizer, shares: dict[Task, float], rng: random.Random, hardness: list[float]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of conversations of like lengths, for ever, as hard as ``hardness[0]`` says."""
    while True:
        level = level_at(hardness[0])
        texts = [render(kind(table, rng, level)) for kind in rng.choices(list(shares), list(shares.values()), k=400)]
        asked, replies = (tokenizer([t[i] for t in texts]).input_ids for i in (0, 1))
        rows = sorted(zip(asked, replies, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * (len(row[0]) + len(row[1])) > TOKENS:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from (pad_batch(group, tokenizer.pad_token_id) for group in groups if group)


def train_llm(minutes: float, steps: int | None = None, is_resumed: bool = False) -> None:
    """Train for ``minutes``, or for ``steps`` where given, and save."""
    torch.manual_seed(0)
    table = PoolTable(load("pool"))
    tokenizer = (
        Qwen2Tokenizer.from_pretrained(FOLDER, local_files_only=True)
        if is_resumed
        else build_chat_tokenizer(FOLDER, table)
    )
    model = build_llm(tokenizer).train()
    if is_resumed:
        saved = Qwen3ForCausalLM.from_pretrained(FOLDER, local_files_only=True, dtype=torch.float32)
        model.load_state_dict(saved.state_dict())
    print(f"{model.num_parameters() / 1e6:.2f} M parameters, {len(tokenizer)} entries", flush=True)
    optimisers = Optimisers(model, 3.5e-3 if is_resumed else 5e-3)
    hardness, shares = [0.0], TASKS
    if is_resumed:
        hardness, shares = [1.0], {**TASKS, repetition: 1.0}
    start, step, seen, running = time.time(), 0, 0, 0.0
    for ids, weights in batches(table, tokenizer, shares, random.Random(2 if is_resumed else 1), hardness):
        progress = step / steps if steps else (time.time() - start) / (60 * minutes)
        hardness[0] = max(hardness[0], progress)
        if progress >= 1:
            break
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state  # (B, T, D)
        loss, reply_loss = weighted_loss(model.lm_head, hidden, ids, weights)
        loss.backward()
        optimisers.step(progress)
        step, seen, running = step + 1, seen + ids.numel(), running + reply_loss.item()
        if step % 50 == 0:
            print(f"{step} loss {running / 50:.4f} tokens {seen / 1e6:.2f} M {time.time() - start:.0f} s", flush=True)
            running = 0.0
        if step % 500 == 0:
            save(model, tokenizer, FOLDER)
    save(model, tokenizer, FOLDER)


def save(model: Qwen3ForCausalLM, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Write model and generation settings, fp16 safetensors, beside the tokenizer."""
    copied = build_llm(tokenizer)
    copied.load_state_dict(model.state_dict())
    copied.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|endoftext|>")],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.9,
        top_p=0.95,
    )
    copied.half().save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=18)
    parser.add_argument("--steps", type=int, help="train for so many steps instead of by the clock")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="go on from the saved weights")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train_llm(arguments.minutes, arguments.steps, arguments.resume)
