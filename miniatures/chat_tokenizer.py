"""The chat tokenizer that the miniature language model and vision-language model share: Qwen2's, with few merges.

Differs from the publishers' files: about a thousand entries instead of 152 thousand, trained on conversations of
``miniatures.conversations``. All 256 bytes are entries, so that any class name is encodable.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from miniatures.conversations import FULL, TASKS, Conversation, PoolTable, form_reminder_of_image
from miniatures.pool import CLASS_NAMES

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {%- if part.type == 'image' or 'image' in part or 'image_url' in part %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif part.type == 'video' or 'video' in part %}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' }}
            {%- elif 'text' in part %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def render(conversation: Conversation, image: str = "") -> tuple[str, str]:
    """Write a conversation as the chat template does: (all before the last reply, that reply and its end).

    ``image`` stands before the first question's text: "" or IMAGE, with as many pads as the processor would write.
    """
    *turns, reply = conversation
    text, role = "", "user"
    for turn in turns:
        text += f"<|im_start|>{role}\n{image}{turn}<|im_end|>\n"
        image, role = "", "assistant" if role == "user" else "user"
    return text + "<|im_start|>assistant\n", f"{reply}<|im_end|>"


def chat_corpus(table: PoolTable, count: int = 3000) -> list[str]:
    """Return the turns of conversations of every kind, but those about made-up names: these must not become entries."""
    rng = random.Random(0)
    kinds = [*TASKS, form_reminder_of_image]
    conversations = [kinds[i % len(kinds)](table, rng, FULL) for i in range(count)]
    return ["\n".join(turns) for turns in conversations if any(f"class {name}" in turns[0] for name in CLASS_NAMES)]


def build_chat_tokenizer(folder: Path, table: PoolTable, entries: int = 1000) -> Qwen2Tokenizer:
    """Train the tokenizer and write its files and chat_template.jinja to ``folder``."""
    trainer = Tokenizer(models.BPE())
    trainer.normalizer = normalizers.NFC()
    trainer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    size = entries - len(SPECIALS)
    options = trainers.BpeTrainer(vocab_size=size, min_frequency=20, initial_alphabet=alphabet, show_progress=False)
    trainer.train_from_iterator(chat_corpus(table), options)
    merges = [tuple(pair) for pair in json.loads(trainer.to_str())["model"]["merges"]]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*alphabet, *("".join(pair) for pair in merges)]))}
    vocab |= {special: len(vocab) + i for i, special in enumerate(SPECIALS)}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIALS),
        model_max_length=2048,
        padding_side="left",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    return tokenizer
