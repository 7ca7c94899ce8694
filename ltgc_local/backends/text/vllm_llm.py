"""Role ``llm`` on vLLM: Qwen2.5, Qwen3, Llama and every other causal language model that vLLM serves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from ltgc_local.backends.protocols import Conversation, LoadSettings, Sampling
from ltgc_local.backends.text.vllm_engine import chat, load_engine


@final
class VllmLlm:
    """A chat model whose decoding follows ``schema``, where one is given."""

    def __init__(self, folder: Path, settings: LoadSettings) -> None:
        self._engine = load_engine(folder, settings)

    def reply(
        self, conversations: Sequence[Conversation], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[str]:
        return chat(self._engine, [[dict(turn) for turn in turns] for turns in conversations], sampling, schema)
