"""Role ``vlm`` on transformers: Qwen2.5-VL, Qwen2-VL, LLaVA and other image-text-to-text models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from ltgc_local.backends.pictures import shrink
from ltgc_local.backends.protocols import Conversation, LoadSettings, Sampling
from ltgc_local.backends.text.chat import generate, load_weights, render_all, reply_in_batches

#: A picture's share of a conversation's length: a token is 28 x 28 pixels and about four characters.
PIXELS_A_CHARACTER = 200


@final
class TransformersVlm:
    """An image-and-text chat model: one image a conversation, in its first turn. ``schema`` is not used."""

    def __init__(self, folder: Path, settings: LoadSettings) -> None:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._build(load_weights(AutoModelForImageTextToText, folder, settings), processor, settings)

    @classmethod
    def from_model(cls, model: Any, processor: Any, settings: LoadSettings) -> TransformersVlm:
        """Run a model that is loaded already; for benchmarks with random weights."""
        vlm = cls.__new__(cls)
        vlm._build(model, processor, settings)
        return vlm

    def _build(self, model: Any, processor: Any, settings: LoadSettings) -> None:
        processor.tokenizer.padding_side = "left"
        self._model, self._processor, self._max_pixels = model, processor, settings.max_pixels

    def describe(
        self,
        images: Sequence[Image.Image],
        conversations: Sequence[Conversation],
        sampling: Sampling,
        schema: dict[str, Any] | None = None,
    ) -> list[str]:
        texts = render_all(self._processor, map(_with_image, conversations))
        pictures = [[shrink(image.convert("RGB"), self._max_pixels)] for image in images]

        def reply(rows: list[int]) -> list[str]:
            chosen, shown = [texts[i] for i in rows], [pictures[i] for i in rows]
            inputs = self._processor(text=chosen, images=shown, padding=True, return_tensors="pt")
            return generate(self._model, inputs, sampling, self._processor.batch_decode)

        lengths = [
            len(text) + image.width * image.height // PIXELS_A_CHARACTER
            for text, (image,) in zip(texts, pictures, strict=True)
        ]
        return reply_in_batches(lengths, self._model.device.type, reply)


def _with_image(turns: Conversation) -> list[dict[str, Any]]:
    """Put the image before the text of the first turn."""
    messages = [{"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    messages[0]["content"] = [{"type": "image"}, *messages[0]["content"]]
    return messages
