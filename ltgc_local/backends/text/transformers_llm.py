"""Role ``llm`` on transformers: any causal language model with a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from transformers import AutoModelForCausalLM, AutoTokenizer

from ltgc_local.backends.protocols import Conversation, LoadSettings, Sampling
from ltgc_local.backends.text.chat import generate, load_weights, render_all, reply_in_batches


@final
class TransformersLlm:
    """A chat model. It cannot constrain decoding: ``schema`` is not used, and the parser reads free text."""

    def __init__(self, folder: Path, settings: LoadSettings) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._build(load_weights(AutoModelForCausalLM, folder, settings), tokenizer)

    @classmethod
    def from_model(cls, model: Any, tokenizer: Any) -> TransformersLlm:
        """Run a model that is loaded already; for benchmarks with random weights."""
        llm = cls.__new__(cls)
        llm._build(model, tokenizer)
        return llm

    def _build(self, model: Any, tokenizer: Any) -> None:
        tokenizer.padding_side = "left"
        self._model, self._tokenizer = model, tokenizer

    def reply(
        self, conversations: Sequence[Conversation], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[str]:
        texts = render_all(self._tokenizer, map(list, conversations))

        def reply(rows: list[int]) -> list[str]:
            chosen = [texts[i] for i in rows]
            inputs = self._tokenizer(chosen, padding=True, return_tensors="pt", add_special_tokens=False)
            return generate(self._model, inputs, sampling, self._tokenizer.batch_decode)

        return reply_in_batches([len(text) for text in texts], self._model.device.type, reply)
