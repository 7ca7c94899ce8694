"""The scorers that decide whether a generated image shows its class, from cosines alone.

S = Enc_vis(image) . Enc_text(C_y), both of unit length (LTGC, iterative evaluation module). Differs from the paper: the
released code compares S + 0.5 with mu, but an absolute threshold is hard to set and cannot detect an image of another
class. S may instead be compared with a percentile of the class's own training images, and C_y may be required to rank
high among all classes: by a fixed rank, or by the rank that most of the class's own training images reach. Every value
is measured and kept, whichever scorers decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltgc_local.recipe.generation import Assess
from ltgc_local.records import Score

OFFSET = 0.5  # in the released code
NO_NUMBER = "no number"  # CLIP's cosine is NaN

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class ClassScorer:
    """Judges the images of one class.

    Attributes:
        own: (n_y,) cosines of the class's training images with C_y, ascending, without NaN; may be empty.
        own_ranks: (n_y,) ranks of C_y among all classes for the same images, from 1, ascending.
    """

    settings: Assess
    class_id: int
    own: Array
    own_ranks: NDArray[np.int64]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The scorers, all of which an image must pass.

        A class without training images has no percentile; its images must reach ``margin_rank`` instead.
        """
        asked = self.settings.scorer.split("+")
        instead = "percentile" if len(self.own) else "margin"
        return tuple(dict.fromkeys(instead if name == "percentile" else name for name in asked))

    @cached_property
    def percentile_cosine(self) -> float:
        """The cosine at the recipe's percentile of the class's training images (linear, as in numpy)."""
        return float(np.quantile(self.own, self.settings.percentile / 100)) if len(self.own) else float("-inf")

    @property
    def lacks_images(self) -> bool:
        """Whether the recipe compares with the class's training images, of which there are none."""
        by_rank = "margin" in self.settings.scorer and self.settings.margin_rank is None
        return not len(self.own) and (by_rank or "percentile" in self.settings.scorer)

    @cached_property
    def margin_rank(self) -> int:
        """The rank that an image must reach: the recipe's, or that of the class's training images.

        The latter is the smallest R with |{x: rank(x) <= R}| >= (1 - percentile / 100) n_y, and at least one image; it
        is 1 for a class without training images.
        """
        if self.settings.margin_rank is not None:
            return self.settings.margin_rank
        if not len(self.own_ranks):
            return 1
        needed = math.ceil(len(self.own_ranks) * (100 - self.settings.percentile) / 100)
        return int(self.own_ranks[max(needed, 1) - 1])

    @cached_property
    def threshold(self) -> float | None:
        """The cosine that an image must reach; None if the rank alone decides."""
        mu = self.settings.threshold
        asked = {"offset": mu - OFFSET, "cosine": mu, "percentile": self.percentile_cosine}
        return max((asked[name] for name in self.names if name in asked), default=None)

    def score(self, key: tuple[int, int, int], cosines: Array) -> Score:
        """Measure one image and judge it.

        Args:
            key: the image's class, description and round.
            cosines: (C,) with every class's template.
        """
        if np.isnan(cosines).any():
            return Score(*key, cosine=None, rank=len(cosines), threshold=self.threshold, failed=(NO_NUMBER,))
        cosine, rank, best = float(cosines[self.class_id]), *rank_among(cosines, self.class_id)
        passes = {
            "offset": cosine + OFFSET >= self.settings.threshold,
            "cosine": cosine >= self.settings.threshold,
            "percentile": cosine >= self.percentile_cosine,
            "margin": rank <= self.margin_rank,
        }
        return Score(
            *key,
            cosine=cosine,
            rank=rank,
            best_other=best,
            best_other_cosine=None if best is None else float(cosines[best]),
            percentile=percentile_of(cosine, self.own),
            threshold=self.threshold,
            failed=tuple(name for name in self.names if not passes[name]),
        )


def rank_among(cosines: Array, class_id: int) -> tuple[int, int | None]:
    """Return the rank of a class's cosine among all (C,), from 1, and the other class with the highest cosine."""
    others = np.delete(cosines, class_id)
    best = int(np.argmax(others)) if len(others) else None
    return 1 + int((others > cosines[class_id]).sum()), None if best is None else best + (best >= class_id)


def ranks_among(cosines: Array, class_id: int) -> NDArray[np.int64]:
    """Return ``rank_among``'s rank for each of n images, (n,), from their cosines with all classes, (n, C)."""
    above = (cosines > cosines[:, class_id : class_id + 1]).sum(axis=1)
    return np.asarray(1 + above, dtype=np.int64)


def percentile_of(cosine: float, own: Array) -> float | None:
    """Return the percentile of ``cosine`` among ``own``, (n,) ascending, from 0 to 100; None if there are none.

    This inverts the linear percentile (numpy's default): a value between two others lies between their percentiles, the
    smallest is at 0, the largest and everything above it at 100; among equal values the highest place counts.
    """
    if len(own) == 0:
        return None
    below = int(np.searchsorted(own, cosine, side="right")) - 1  # the last that is not above
    if below < 0:
        return 0.0
    if below == len(own) - 1:
        return 100.0
    part = (cosine - own[below]) / (own[below + 1] - own[below])
    return float(100 * (below + part) / (len(own) - 1))


def explain(score: Score, settings: Assess, class_names: tuple[str, ...]) -> str:
    """Say why an image was rejected; empty for an accepted one."""
    if NO_NUMBER in score.failed:
        return "CLIP gave no number"
    of_photographs = f"below that of {100 - settings.percentile:g} % of the photographs"
    low = f"not in the first {settings.margin_rank}" if settings.margin_rank else of_photographs
    rival = "" if score.best_other is None else f", closest to {class_names[score.best_other]!r}"
    words = {
        "offset": f"cosine {score.cosine:.3f} + {OFFSET} is below {settings.threshold:g}",
        "cosine": f"cosine {score.cosine:.3f} is below {settings.threshold:g}",
        "percentile": f"cosine {score.cosine:.3f} is below percentile {settings.percentile:g} of the photographs'",
        "margin": f"rank {score.rank} is {low}{rival}",
    }
    return "; ".join(words[name] for name in score.failed)
