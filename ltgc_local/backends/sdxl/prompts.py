"""Prompts to embeddings: each distinct one once, in large batches, with the text encoders on the GPU only meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

BATCH = 64

#: The places, as (object, attribute), that hold one tensor.
Places = tuple[tuple[Any, str], ...]


@dataclass(frozen=True)
class Embeddings:
    """Token states (B, 77, D), possibly followed by tokens of features, and pooled text (B, P)."""

    hidden: torch.Tensor
    pooled: torch.Tensor

    def __add__(self, other: Embeddings) -> Embeddings:
        """Return the rows of both."""
        return Embeddings(torch.cat([self.hidden, other.hidden]), torch.cat([self.pooled, other.pooled]))

    def __getitem__(self, rows: Any) -> Embeddings:
        return Embeddings(self.hidden[rows], self.pooled[rows])

    def with_tokens(self, tokens: torch.Tensor) -> Embeddings:
        """Return these with tokens (B, K, D) of features after the prompts'."""
        return Embeddings(torch.cat([self.hidden, tokens.to(self.hidden.dtype)], 1), self.pooled)


class PromptEncoder:
    """Encodes as the stock pipeline does and keeps the embeddings of the last call's prompts.

    An empty negative prompt is zeros where the model's folder says so (``force_zeros_for_empty_prompt``).
    """

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        self._pipeline, self._device = pipeline, device
        self._known: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._on_cpu: list[tuple[torch.Tensor, Places]] = []
        if device.type == "cuda":  # page-locked, so that each chunk's trip to the GPU is short; the way back is free
            for encoder in (pipeline.text_encoder, pipeline.text_encoder_2):
                for places in places_of_weights(encoder):
                    self._on_cpu.append((getattr(*places[0]).cpu().pin_memory(), places))
                    put(*self._on_cpu[-1])

    def prepare(self, prompts: Sequence[str], negative_prompt: str) -> None:
        """Encode these prompts, unless they are those of the last call, and forget all others.

        Encoding only those that are not known yet would make a chunk's last bits depend on the chunks that the same
        worker made before: a batch of another size rounds in another way.
        """
        new = list(dict.fromkeys([*prompts, *([] if self._is_zeros(negative_prompt) else [negative_prompt])]))
        if new == list(self._known):
            return
        self._known = {}
        with self._encoders_on_device():
            for start in range(0, len(new), BATCH):
                batch = new[start : start + BATCH]
                hidden, _, pooled, _ = self._pipeline.encode_prompt(
                    batch, device=self._device, do_classifier_free_guidance=False
                )
                self._known |= {prompt: (hidden[i], pooled[i]) for i, prompt in enumerate(batch)}

    def rows(self, prompts: Sequence[str]) -> Embeddings:
        """Return the embeddings of prompts that ``prepare`` was given."""
        hidden, pooled = zip(*(self._known[prompt] for prompt in prompts), strict=True)
        return Embeddings(torch.stack(hidden), torch.stack(pooled))

    def negative_rows(self, negative_prompt: str, like: Embeddings) -> Embeddings:
        """Return as many rows of the negative prompt as ``like`` has."""
        if self._is_zeros(negative_prompt):
            return Embeddings(torch.zeros_like(like.hidden), torch.zeros_like(like.pooled))
        return self.rows([negative_prompt] * len(like.hidden))

    def _is_zeros(self, negative_prompt: str) -> bool:
        return not negative_prompt and bool(self._pipeline.config.force_zeros_for_empty_prompt)

    @contextmanager
    def _encoders_on_device(self) -> Iterator[None]:
        try:
            for weight, places in self._on_cpu:
                put(weight.to(self._device, non_blocking=True), places)
            yield
        finally:
            for weight, places in self._on_cpu:
                put(weight, places)


def places_of_weights(encoder: Any) -> list[Places]:
    """Return where an encoder's tensors are: parameters, buffers, and what bitsandbytes' 8-bit layers keep besides.

    Such a layer computes with its state, whose ``CB`` is the weight itself, and ``SCB`` the scales of its rows.
    """
    eight_bit = [module for module in encoder.modules() if type(module).__name__ == "Linear8bitLt"]
    found: list[Places] = []
    for layer in eight_bit:
        if layer.weight.CB is not None:
            layer.init_8bit_state()  # as its first call does
        found += [((layer.weight, "data"), (layer.state, "CB")), ((layer.state, "SCB"),)]
    done = {id(layer.weight) for layer in eight_bit}
    return found + [((each, "data"),) for each in (*encoder.parameters(), *encoder.buffers()) if id(each) not in done]


def put(tensor: torch.Tensor, places: Places) -> None:
    for holder, name in places:
        setattr(holder, name, tensor)
