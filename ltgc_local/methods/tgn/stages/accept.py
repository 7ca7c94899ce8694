"""Accept: does a drawn image show its class? CLIP chooses among all classes' prompts, the tail network among the tail.

    clip           argmax_k <E_I(x), E_T(t_k)> = y, over ALL classes
    tail_network   softmax(C(x))_y >= accept_probability, over the tail classes
    either         one of the two

Each image's figures and the reason of a refusal are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ltgc_local.backends.protocols import ClipModel
from ltgc_local.backends.torch_device import resolve_device
from ltgc_local.errors import BackendError
from ltgc_local.methods.context import Chunk, StageContext, split
from ltgc_local.methods.tgn.classes import read_manifest
from ltgc_local.methods.tgn.network import TailNetwork, load_tail_network
from ltgc_local.methods.tgn.tail_features import probabilities_of
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.recipe.schema import Diffusion
from ltgc_local.records import Acceptance
from ltgc_local.runs.files import Artefact, Json, Lines, decode_png
from ltgc_local.runs.generated import GeneratedRow, read_generated


def plan_chunks(context: StageContext[DiffusionRecipe]) -> list[Chunk]:
    """Return the attempt's images, a shard's number at a time."""
    return split(context.run.generated(context.step.reads[0]), context.recipe.diffusion.shard_size)


def run_chunk(context: StageContext[DiffusionRecipe], chunk: Sequence[GeneratedRow]) -> list[Artefact]:
    scores: list[Acceptance] = []
    for batch in split(chunk, context.recipe.diffusion.accept_batch_size):
        scores += _judge(context, batch)
        context.progress.advance(len(batch))
    names = context.corpus.class_names
    drawn, accepted = Counter(s.class_id for s in scores), Counter(s.class_id for s in scores if s.accepted)
    counts = {names[class_id]: {"drawn": n, "accepted": accepted[class_id]} for class_id, n in drawn.items()}
    return [Json("acceptance", counts), Lines("scores", scores)]


def _judge(context: StageContext[DiffusionRecipe], batch: Sequence[GeneratedRow]) -> list[Acceptance]:
    settings, names = context.recipe.diffusion, context.corpus.class_names
    images = [decode_png(drawn.image).convert("RGB") for drawn in read_generated(batch)]
    cosines = probabilities = None
    if settings.judges_by_clip:
        model: ClipModel = context.model
        cosines = model.encode_images(images).numpy() @ context.once(_encode_prompts).T  # (B, C)
    if settings.judges_by_tail_network:
        device = resolve_device(context.recipe.models.device)
        network = context.once(_load_network)
        probabilities = probabilities_of(network, images, device).numpy()  # (B, T)
    index = read_manifest(context.run).tail_index
    return [
        judge(
            row.key,
            None if cosines is None else cosines[place],
            None if probabilities is None else float(probabilities[place, index[row.class_id]]),
            settings,
            names,
        )
        for place, row in enumerate(batch)
    ]


def judge(
    key: tuple[int, int, int],
    cosines: np.ndarray | None,
    probability: float | None,
    settings: Diffusion,
    class_names: Sequence[str],
) -> Acceptance:
    """Judge one image.

    Args:
        key: class, number and attempt.
        cosines: (C,) with every class's prompt, by class id; None where CLIP is not asked.
        probability: of its class, by the tail network; None where that is not asked.
    """
    class_id, reasons, cosine, rank, best = key[0], {}, None, None, None
    if cosines is not None:
        cosine, others = float(cosines[class_id]), np.delete(cosines, class_id)
        rank = 1 + int((others > cosine).sum())
        best = int(np.argmax(others)) if len(others) else None
        best = None if best is None else best + (best >= class_id)
        if rank > 1 or np.isnan(cosines).any():
            reasons["clip"] = f"CLIP: closest to {class_names[best]!r}" if best is not None else "CLIP gave no number"
    if probability is not None and not probability >= settings.accept_probability:
        reasons["tail_network"] = f"tail network: p {probability:.2f} is below {settings.accept_probability:g}"
    if settings.accept == "either" and len(reasons) < 2:
        reasons = {}
    threshold = settings.accept_probability if probability is not None else None
    return Acceptance(
        *key, cosine, rank, best, probability, threshold, failed=tuple(reasons), reason="; ".join(reasons.values())
    )


def _encode_prompts(context: StageContext[DiffusionRecipe]) -> np.ndarray:
    """Encode the prompt of every class, by class id, (C, D).

    Raises:
        BackendError: CLIP's numbers overflow, so that no image can be judged.
    """
    entries = sorted(read_manifest(context.run).entries, key=lambda entry: entry.class_id)
    model: ClipModel = context.model
    features: np.ndarray = model.encode_texts([entry.prompt for entry in entries]).numpy()
    if np.isnan(features).any():
        raise BackendError("diffusion: CLIP's text features are not numbers; type --set models.dtype=float32")
    return features


def _load_network(context: StageContext[DiffusionRecipe]) -> TailNetwork:
    return load_tail_network(context.run, context.step.reads, resolve_device(context.recipe.models.device))
