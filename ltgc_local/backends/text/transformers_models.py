"""Roles ``vlm`` and ``llm`` on transformers: Qwen2.5-VL, LLaVA and other image-text-to-text models, and causal models.

Decoding cannot be constrained here: ``schema`` is not used, and the parser reads free text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, final

import torch
import transformers
from PIL import Image

from ltgc_local.backends.images import shrink
from ltgc_local.backends.protocols import NO_THINKING, Conversation, Sampling, TextOptions, TokenCount
from ltgc_local.backends.text.quantised import load_quantised
from ltgc_local.errors import BackendError
from ltgc_local.model_store.limits import TooSlowError, time_limit
from ltgc_local.model_store.templates import raise_too_slow

#: Conversations that are generated at once, by device: a batch is done when its longest reply is. Batches hold
#: conversations of similar length and are not refilled: transformers' continuous batching supports neither images nor a
#: seed per call, and on a CPU took 50 s for four short replies. Use vLLM for refilling.
BATCH_SIZE = {"cpu": 16, "cuda": 64}
RENDER_S = 10  # seconds allowed for a chat template to render one conversation; it takes milliseconds
#: Pixels that count as one character of a conversation: a token is 28 x 28 pixels and about four characters.
PIXELS_PER_CHARACTER = 200

log = logging.getLogger(__name__)


class TransformersChat:
    """A ``ChatModel``: a model, and its tokenizer or processor with a chat template.

    transformers' classes are named, not imported: a processor brings a second of imports that an llm does not need.
    """

    auto_model: str
    auto_parts: str

    def __init__(self, folder: Path, options: TextOptions) -> None:
        auto_model, auto_parts = (getattr(transformers, name) for name in (self.auto_model, self.auto_parts))
        parts = auto_parts.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._build(load_quantised(auto_model, folder, options), parts, options)

    @classmethod
    def from_model(cls, model: Any, parts: Any, options: TextOptions) -> Self:
        """Wrap a model that is already loaded; for benchmarks with random weights."""
        wrapped = cls.__new__(cls)
        wrapped._build(model, parts, options)
        return wrapped

    def _build(self, model: Any, parts: Any, options: TextOptions) -> None:
        self._model, self._parts, self._max_pixels = model, parts, options.max_pixels
        self.tokens = TokenCount()
        getattr(parts, "tokenizer", parts).padding_side = "left"

    def reply(
        self,
        conversations: Sequence[Conversation],
        sampling: Sampling,
        schema: dict[str, Any] | None = None,
        images: Sequence[Image.Image] | None = None,
    ) -> list[str]:
        shown = [shrink(image.convert("RGB"), self._max_pixels) for image in images or ()]
        turns = [with_image(each, {"type": "image"}) if shown else list(each) for each in conversations]
        texts = render_all(self._parts, turns)
        lengths = [len(text) for text in texts]
        if shown:
            pixels = [image.width * image.height for image in shown]
            lengths = [length + num // PIXELS_PER_CHARACTER for length, num in zip(lengths, pixels, strict=True)]

        def reply(rows: list[int]) -> list[str]:
            more = {"images": [[shown[i]] for i in rows]} if shown else {"add_special_tokens": False}
            inputs = self._parts(text=[texts[i] for i in rows], padding=True, return_tensors="pt", **more)
            self.tokens.read += int(inputs["attention_mask"].sum())
            return generate(self._model, inputs, sampling, self._decode)

        return reply_in_batches(lengths, self._model.device.type, reply)

    def _decode(self, tokens: torch.Tensor, **arguments: Any) -> list[str]:
        filler = getattr(self._parts, "tokenizer", self._parts).pad_token_id  # after the end of the shorter replies
        self.tokens.written += tokens.numel() if filler is None else int((tokens != filler).sum())
        texts: list[str] = self._parts.batch_decode(tokens, **arguments)
        return texts


@final
class TransformersLlm(TransformersChat):
    """Any causal language model with a chat template."""

    auto_model, auto_parts = "AutoModelForCausalLM", "AutoTokenizer"


@final
class TransformersVlm(TransformersChat):
    """An image-and-text chat model: one image per conversation, in its first turn."""

    auto_model, auto_parts = "AutoModelForImageTextToText", "AutoProcessor"


def with_image(turns: Conversation, image: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a conversation in parts, with an image before the text of its first turn."""
    messages = [{"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    messages[0]["content"] = [image, *messages[0]["content"]]
    return messages


def template_arguments(template: object) -> dict[str, bool]:
    """Return what tells a chat template not to think, if it can: a processor warns about arguments it does not know."""
    return NO_THINKING if "enable_thinking" in str(template) else {}


def render_all(parts: Any, conversations: Sequence[list[Any]]) -> list[str]:
    """Render conversations by the tokenizer's or processor's chat template, ready for a reply.

    Raises:
        ModelError: the template takes too long for one of them.
    """
    arguments = template_arguments(parts.chat_template)
    texts = []
    for turns in conversations:
        try:
            with time_limit(RENDER_S):
                texts.append(parts.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **arguments))
        except TooSlowError:
            raise_too_slow(getattr(getattr(parts, "tokenizer", parts), "name_or_path", ""), RENDER_S)
    return texts


@torch.inference_mode()
def generate(model: Any, inputs: Any, sampling: Sampling, decode: Callable[..., list[str]]) -> list[str]:
    """Generate after left-padded ``inputs`` and decode only the new tokens."""
    torch.manual_seed(sampling.seed)
    decoding: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        decoding = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    # A folder's generation_config.json may ask for thousands of beams, each with a cache of its own.
    decoding |= {"num_beams": 1, "num_return_sequences": 1}
    tokens = model.generate(**inputs.to(model.device), max_new_tokens=sampling.max_new_tokens, **decoding)
    return decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def reply_in_batches(
    lengths: Sequence[int], device: str, reply: Callable[[list[int]], list[str]], batch_size: int | None = None
) -> list[str]:
    """Reply to conversations in batches of similar length, the longest first; halve a batch that memory does not hold.

    Similar lengths need little padding. With the longest first, what memory cannot hold shows at once.

    Args:
        lengths: of each conversation, in any unit.
        reply: replies to the conversations with these indices.

    Raises:
        BackendError: memory does not hold one conversation.
    """
    size = batch_size or BATCH_SIZE["cuda" if device.startswith("cuda") else "cpu"]
    replies = [""] * len(lengths)
    waiting = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while waiting:
        rows = waiting[:size]
        try:
            done = reply(rows)
        except torch.OutOfMemoryError as problem:
            if len(rows) == 1:
                raise BackendError(
                    "the GPU's memory does not hold one conversation; lower models.max_pixels, or type "
                    "--set models.quantization=4bit"
                ) from problem
            torch.cuda.empty_cache()
            size = len(rows) // 2
            log.warning("out of GPU memory with %d conversations; continuing with %d at once", len(rows), size)
            continue
        waiting = waiting[len(rows) :]
        for row, text in zip(rows, done, strict=True):
            replies[row] = text
    return replies
