"""Attributes of a Fashion-MNIST picture, computed from its pixels: what the miniatures' captions state.

Every attribute is a formula on the 28x28 grey image, so "is the statement true of this image" has an exact answer for
a photograph and for a drawn image alike. The thresholds were set by looking at pictures of the pool, before training.
"""

from __future__ import annotations

import numpy as np

FOREGROUND = 25  # grey level above which a pixel belongs to the object
TOPS, LEGS, SHOES, BAGS = {0, 2, 3, 4, 6}, {1}, {5, 7, 9}, {8}

#: attribute -> its values
VALUES: dict[str, tuple[str, ...]] = {
    "tone": ("dark", "grey", "bright"),
    "surface": ("plain", "striped", "patterned"),
    "shape": ("broad", "short-sleeved", "slim"),
    "legs": ("slim", "wide"),
    "handle": ("raised", "absent"),
    "heel": ("raised", "flat"),
    "view": ("tall", "square", "wide"),
}


def cut_of(class_id: int) -> str:
    """Return the attribute that describes this class's cut: shape, legs, heel or handle."""
    if class_id in TOPS:
        return "shape"
    if class_id in LEGS:
        return "legs"
    return "heel" if class_id in SHOES else "handle"


def names_of(class_id: int) -> tuple[str, str, str, str]:
    """Return the attributes stated of a class, in the order of a description: three features, one scene."""
    return "tone", "surface", cut_of(class_id), "view"


def compute(image: np.ndarray, class_id: int) -> dict[str, str]:
    """Compute the attributes of one image (28, 28) uint8, light object on a dark ground."""
    grey = image.astype(np.float32)
    mask = grey > FOREGROUND
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) < 3 or len(columns) < 3:
        return {"tone": "dark", "surface": "plain", cut_of(class_id): VALUES[cut_of(class_id)][-1], "view": "square"}
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = box.shape
    return {
        "tone": _tone(float(grey[mask].mean())),
        "surface": _surface(grey, mask, stripes=class_id not in SHOES),
        cut_of(class_id): _cut(box, class_id),
        "view": "tall" if height > 1.35 * width else "wide" if width > 1.35 * height else "square",
    }


def _tone(mean: float) -> str:
    return "dark" if mean < 105 else "bright" if mean > 175 else "grey"


def _surface(grey: np.ndarray, mask: np.ndarray, stripes: bool) -> str:
    """Call the inside striped where rows differ much more than columns do, patterned where neighbours differ."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    across = np.abs(np.diff(grey, axis=1))[inside[:, 1:] & inside[:, :-1]]
    down = np.abs(np.diff(grey, axis=0))[inside[1:] & inside[:-1]]
    if len(across) < 10 or len(down) < 10:
        return "plain"
    horizontal, vertical = float(across.mean()), float(down.mean())
    if stripes and vertical > 22 and vertical > 1.5 * horizontal:
        return "striped"
    return "patterned" if (horizontal + vertical) / 2 > 24 else "plain"


def _cut(box: np.ndarray, class_id: int) -> str:
    """Read the cut off the silhouette ``box``, the mask (H, W) within its bounding box."""
    height, width = box.shape
    filled = box.sum(1)
    if class_id in TOPS:
        shoulders = filled[int(0.12 * height) : int(0.38 * height) + 1].mean()
        hips = filled[int(0.65 * height) : int(0.92 * height) + 1].mean()
        if shoulders > 1.12 * hips and width > 0.5 * height:
            return "short-sleeved"
        return "broad" if hips > 0.62 * height else "slim"
    if class_id in LEGS:
        return "wide" if filled[height // 2 :].mean() > 0.36 * height else "slim"
    if class_id in SHOES:
        sole = box[-2:].any(0)
        return "flat" if sole.mean() > 0.72 else "raised"
    return "raised" if box[: max(2, height // 4)].mean() < 0.5 else "absent"
