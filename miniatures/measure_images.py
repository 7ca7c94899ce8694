"""Measure the shipped text-to-image model and CLIP on held-out photographs; print a table, write a JSON file.

    python -m miniatures.measure_images [--per-class 100]

Text to image: prompts are the attributes of validation photographs (which no miniature has seen), worded as Template 1.
The judge says which class each drawn image looks like; ``attributes.compute`` says which attributes it has. Chance is
what always stating the most common value among the prompts would reach. CLIP: zero-shot accuracy on validation.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import time
from pathlib import Path

import numpy as np
import torch

from ltgc_local.backends.clip.open_clip_vit import OpenClipVit
from ltgc_local.backends.images import to_stored
from ltgc_local.backends.protocols import Drawing, ModelOptions, T2iOptions
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from ltgc_local.methods.ltgc.prompts import zero_shot_text
from ltgc_local.methods.ltgc.stages.draw import draw_settings
from ltgc_local.recipe import load_recipe
from miniatures.attributes import compute, names_of
from miniatures.captions import say, sentence
from miniatures.judge import judge
from miniatures.pool import CLASS_NAMES, ROOT, WEIGHTS, load

RESULT = WEIGHTS / "quality_images.json"


def measure_drawing(per_class: int) -> dict[str, object]:
    """Draw ``per_class`` prompts of each class with the quickstart's settings and compare."""
    recipe = load_recipe(ROOT / "recipes" / "quickstart.yaml")
    settings = draw_settings(recipe.draw)
    model = DiffusersSdxl(WEIGHTS / "sdxl", T2iOptions(device="cpu"))
    val, rng = load("val"), random.Random(0)
    rows = [int(row) for c in range(10) for row in np.flatnonzero(val.labels == c)[:per_class]]
    wanted = [val.attributes[row] for row in rows]
    classes = [int(val.labels[row]) for row in rows]
    prompts = [sentence(CLASS_NAMES[c], *say(w, c, rng)) for c, w in zip(classes, wanted, strict=True)]
    start = time.monotonic()
    images = dict(model.draw([Drawing(prompt, seed) for seed, prompt in enumerate(prompts)], settings))
    seconds = time.monotonic() - start
    grey = np.stack([np.asarray(to_stored(images[i], recipe.draw.stored_size_px, "L")) for i in range(len(images))])
    verdicts = judge(grey)
    followed, common = collections.defaultdict(list), collections.defaultdict(list)
    for image, class_id, want in zip(grey, classes, wanted, strict=True):
        found = compute(image, class_id)
        for name in names_of(class_id):
            followed[name].append(found[name] == want[name])
            common[name].append(want[name])
    right = verdicts == np.array(classes)
    return {
        "images": len(images),
        "images_per_second": round(len(images) / seconds, 2),
        "class_percent": _percent(right),
        "class_percent_per_class": {
            CLASS_NAMES[c]: _percent(right[np.array(classes) == c]) for c in sorted(set(classes))
        },
        "attribute_percent": _percent([hit for hits in followed.values() for hit in hits]),
        "attributes": {
            name: {
                "followed_percent": _percent(hits),
                "chance_percent": _percent([value == _mode(common[name]) for value in common[name]]),
            }
            for name, hits in followed.items()
        },
    }


def measure_clip() -> dict[str, object]:
    """Return CLIP's zero-shot accuracy on the validation photographs."""
    from PIL import Image

    clip, val = OpenClipVit(WEIGHTS / "clip", ModelOptions(device="cpu")), load("val")
    features = clip.encode_images([Image.fromarray(image) for image in val.images])
    texts = clip.encode_texts([zero_shot_text(name) for name in CLASS_NAMES])
    predicted = (features @ texts.T).argmax(1).numpy()
    return {"zero_shot_percent": _percent(predicted == val.labels), "chance_percent": 10.0}


def _mode(values: list[str]) -> str:
    return collections.Counter(values).most_common(1)[0][0]


def _percent(hits: object) -> float:
    return round(100 * float(np.mean(hits)), 1)


def main(per_class: int, result: Path) -> None:
    test = load("official_test")
    figures: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "judge_test_percent": _percent(judge(test.images) == test.labels),
        "clip": measure_clip(),
        "t2i": measure_drawing(per_class),
    }
    result.write_text(json.dumps(figures, indent=1) + "\n")
    drawn: dict = figures["t2i"]
    print("| figure | percent | chance |\n|---|---|---|")
    print(f"| judge on the official test images | {figures['judge_test_percent']} | 10 |")
    print(f"| CLIP zero-shot on validation | {figures['clip']['zero_shot_percent']} | 10 |")
    print(f"| drawn images that the judge gives their class ({drawn['images']}) | {drawn['class_percent']} | 10 |")
    print(f"| stated attributes that a drawn image has | {drawn['attribute_percent']} | |")
    for name, values in drawn["attributes"].items():
        print(f"| … {name} | {values['followed_percent']} | {values['chance_percent']} |")
    print("per class: " + ", ".join(f"{name} {value}" for name, value in drawn["class_percent_per_class"].items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    main(arguments.per_class, arguments.result)
