"""Role ``vlm`` on vLLM: Qwen2.5-VL, Qwen2-VL, LLaVA and every other image-and-text model that vLLM serves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from PIL import Image

from ltgc_local.backends.pictures import shrink
from ltgc_local.backends.protocols import Conversation, LoadSettings, Sampling
from ltgc_local.backends.text.vllm_engine import chat, load_engine


@final
class VllmVlm:
    """An image-and-text chat model: one image a conversation, before the text of its first turn."""

    def __init__(self, folder: Path, settings: LoadSettings) -> None:
        self._engine = load_engine(folder, settings, limit_mm_per_prompt={"image": 1, "video": 0})
        self._max_pixels = settings.max_pixels

    def describe(
        self,
        images: Sequence[Image.Image],
        conversations: Sequence[Conversation],
        sampling: Sampling,
        schema: dict[str, Any] | None = None,
    ) -> list[str]:
        messages = []
        for image, turns in zip(images, conversations, strict=True):
            shown = [_text_turn(turn) for turn in turns]
            picture = {"type": "image_pil", "image_pil": shrink(image.convert("RGB"), self._max_pixels)}
            shown[0]["content"] = [picture, *shown[0]["content"]]
            messages.append(shown)
        return chat(self._engine, messages, sampling, schema)


def _text_turn(turn: Any) -> dict[str, Any]:
    return {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]}
