"""Tokenizers for the miniatures, trained on sentences that their models are to read."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from miniatures.captions import PHRASES, sentence
from miniatures.pool import CLASS_NAMES

CLIP_SPLIT = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def caption_corpus() -> list[str]:
    """Return sentences that use every class name and phrase several times."""
    rng = random.Random(0)
    phrases = [phrase for options in PHRASES.values() for phrase in options]
    lines = [sentence(name, [rng.choice(phrases)], rng.choice(phrases)) for name in CLASS_NAMES for _ in range(40)]
    return lines + phrases * 10 + ["A photo of a piece of clothing, shoes or a garment."] * 40


def build_clip_tokenizer(folder: Path, merges: int = 600) -> CLIPTokenizer:
    """Write a CLIP byte-level BPE with few merges: any text is encodable, <|endoftext|> has the last id."""
    trainer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trainer.normalizer = normalizers.Lowercase()
    trainer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_SPLIT), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer.train_from_iterator(
        caption_corpus(),
        trainers.BpeTrainer(vocab_size=512 + merges, end_of_word_suffix="</w>", initial_alphabet=alphabet),
    )
    pairs = json.loads(trainer.to_str())["model"]["merges"]
    pieces = alphabet + [a + "</w>" for a in alphabet] + ["".join(pair) for pair in pairs]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in pairs) + "\n")
    tokenizer = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77)
    tokenizer.save_pretrained(folder)
    return tokenizer
