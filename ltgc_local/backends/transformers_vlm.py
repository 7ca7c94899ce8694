"""Role ``vlm`` on transformers: Qwen2.5-VL, Qwen2-VL, LLaVA and other image-text-to-text models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from ltgc_local.backends.chat import generate, load_weights
from ltgc_local.backends.pictures import shrink
from ltgc_local.backends.protocols import Conversation, LoadSettings, Sampling


@final
class TransformersVlm:
    """An image-and-text chat model: one image a conversation, in its first turn. ``schema`` is not used."""

    def __init__(self, folder: Path, settings: LoadSettings) -> None:
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._processor.tokenizer.padding_side = "left"
        self._model = load_weights(AutoModelForImageTextToText, folder, settings)
        self._max_pixels = settings.max_pixels

    def describe(
        self,
        images: Sequence[Image.Image],
        conversations: Sequence[Conversation],
        sampling: Sampling,
        schema: dict[str, Any] | None = None,
    ) -> list[str]:
        texts = [
            self._processor.apply_chat_template(_with_image(turns), tokenize=False, add_generation_prompt=True)
            for turns in conversations
        ]
        pictures = [[shrink(image.convert("RGB"), self._max_pixels)] for image in images]
        inputs = self._processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        return generate(self._model, inputs, sampling, self._processor.batch_decode)


def _with_image(turns: Conversation) -> list[dict[str, Any]]:
    """Put the image before the text of the first turn."""
    messages = [{"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    messages[0]["content"] = [{"type": "image"}, *messages[0]["content"]]
    return messages
