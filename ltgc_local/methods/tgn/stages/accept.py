"""Accept: does a generated image show its class? And collect: keep of each wanted image the attempt that was accepted.

    clip           argmax_k <E_I(x), E_T(t_k)> = y, over ALL classes
    tail_network   softmax(C(x))_y >= accept_probability, over the tail classes
    either         one of the two

Each image's measurements and the reason for a rejection are kept. Images that no attempt got right are left out and
listed, so a class may get fewer images than the budget wants: ``merge`` reports how many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ltgc_local.backends.protocols import ClipModel
from ltgc_local.errors import BackendError
from ltgc_local.methods.ltgc.scorers import rank_among
from ltgc_local.methods.ltgc.stages.collect import CollectStage
from ltgc_local.methods.stage import ChunkedStage, split
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import DiffusionRecipe
from ltgc_local.recipe.diffusion import Diffusion
from ltgc_local.records import Acceptance
from ltgc_local.runs.files import Artefact, Json, Lines, decode_png
from ltgc_local.runs.generated import GeneratedRow, read_generated, read_rows
from ltgc_local.runs.row_index import FileRows


class AcceptStage(ChunkedStage[DiffusionRecipe, FileRows], TgnStage):
    """Judges the images of one attempt."""

    def chunks(self) -> list[Sequence[FileRows]]:
        parts = self.run.index(self.input("images")).parts(self.recipe.diffusion.shard_size)
        return [part.items() for part in parts]

    def make_chunk(self, chunk: Sequence[FileRows]) -> list[Artefact]:
        scores: list[Acceptance] = []
        for batch in split(read_rows(chunk), self.recipe.diffusion.accept_batch_size):
            scores += self._judge(batch)
            self.progress.advance(len(batch))
        names = self.corpus.class_names
        judged, accepted = Counter(s.class_id for s in scores), Counter(s.class_id for s in scores if s.accepted)
        counts = {names[class_id]: {"drawn": n, "accepted": accepted[class_id]} for class_id, n in judged.items()}
        return [Json("acceptance", counts), Lines("scores", scores)]

    def _judge(self, batch: Sequence[GeneratedRow]) -> list[Acceptance]:
        settings = self.recipe.diffusion
        images = [decode_png(generated.image).convert("RGB") for generated in read_generated(batch)]
        cosines: Sequence[np.ndarray | None] = [None] * len(batch)
        probabilities: Sequence[float | None] = [None] * len(batch)
        if settings.judges_by_clip:
            model: ClipModel = self.model
            cosines = list(model.encode_images(images).numpy() @ self._prompts.T)  # (C,) each
        if settings.judges_by_tail_network:
            indices = [self.manifest.by_id[row.class_id].index for row in batch]
            probabilities = self.tail_network.probabilities(images)[range(len(batch)), indices].tolist()
        return [
            judge(row.key, of_clip, of_network, settings, self.corpus.class_names)
            for row, of_clip, of_network in zip(batch, cosines, probabilities, strict=True)
        ]

    @cached_property
    def _prompts(self) -> np.ndarray:
        """The embedded prompts of all classes, by class id, (C, D).

        Raises:
            BackendError: CLIP's numbers overflow, so no image can be judged.
        """
        model: ClipModel = self.model
        features: np.ndarray = model.encode_texts(self.manifest.prompts).numpy()
        if np.isnan(features).any():
            raise BackendError("diffusion: CLIP's text features are not numbers; type --set models.dtype=float32")
        return features


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
        cosines: (C,) with every class's prompt, by class id; None unless CLIP judges.
        probability: of the image's class, by the tail network; None unless that judges.
    """
    class_id, reasons, cosine, rank, best = key[0], {}, None, None, None
    if cosines is not None:
        cosine, rank, best = float(cosines[class_id]), *rank_among(cosines, class_id)
        if np.isnan(cosines).any():
            reasons["clip"] = "CLIP gave no number"
        elif best is not None and rank > 1:
            reasons["clip"] = f"CLIP: closest to {class_names[best]!r}"
    if probability is not None and not probability >= settings.accept_probability:
        reasons["tail_network"] = f"tail network: p {probability:.2f} is below {settings.accept_probability:g}"
    if settings.accept == "either" and len(reasons) < 2:
        reasons = {}
    threshold = settings.accept_probability if probability is not None else None
    return Acceptance(
        *key, cosine, rank, best, probability, threshold, failed=tuple(reasons), reason="; ".join(reasons.values())
    )


class CollectAcceptedStage(CollectStage):
    """Keeps what the accept test let through, or everything if the recipe has no such test."""

    recipe: DiffusionRecipe
    judgement, judged_by = Acceptance, "accept"

    def limits(self) -> tuple[int, int]:
        return self.recipe.diffusion.shard_size, self.recipe.diffusion.attempts

    def explain(self, score: Acceptance) -> str:
        return score.reason
