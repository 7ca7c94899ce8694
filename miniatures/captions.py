"""The miniatures' language: phrases for attribute values, Template 1 sentences, and reading values back from a text."""

from __future__ import annotations

import random

from miniatures.attributes import VALUES, names_of

#: (attribute, value) -> ways to say it. No phrase is part of another one's.
PHRASES: dict[tuple[str, str], tuple[str, ...]] = {
    ("tone", "dark"): ("a dark tone", "a deep dark colour", "very little light"),
    ("tone", "grey"): ("a medium grey tone", "a muted grey colour", "a middling shade"),
    ("tone", "bright"): ("a bright tone", "a pale colour", "a nearly white shade"),
    ("surface", "plain"): ("a plain surface", "a smooth finish", "an even weave"),
    ("surface", "striped"): ("horizontal stripes", "bold bands across", "a banded front"),
    ("surface", "patterned"): ("a patterned surface", "a busy print", "a rough texture"),
    ("shape", "broad"): ("a broad body", "a wide boxy cut", "long sleeves beside a wide body"),
    ("shape", "short-sleeved"): ("short sleeves", "sleeves that stand out", "cropped arms"),
    ("shape", "slim"): ("a slim body", "a straight narrow cut", "a close fitted waist"),
    ("legs", "slim"): ("slim legs", "narrow straight legs", "a tight leg cut"),
    ("legs", "wide"): ("wide legs", "loose roomy legs", "a baggy leg cut"),
    ("handle", "raised"): ("a raised handle", "a tall carrying strap", "a loop above the top"),
    ("handle", "absent"): ("no visible handle", "a closed flat top", "a handle-free lid"),
    ("heel", "raised"): ("a raised heel", "a high heel", "a gap under the arch"),
    ("heel", "flat"): ("a flat sole", "a level base", "no heel at all"),
    ("view", "tall"): ("a tall narrow view", "an upright framing", "a picture taller than wide"),
    ("view", "square"): ("a square view", "an even framing", "a picture as wide as tall"),
    ("view", "wide"): ("a low wide view", "a stretched framing", "a picture wider than tall"),
}
MEANING: dict[str, tuple[str, str]] = {phrase: key for key, phrases in PHRASES.items() for phrase in phrases}
assert set(PHRASES) == {(name, value) for name, values in VALUES.items() for value in values}


def say(values: dict[str, str], class_id: int, rng: random.Random) -> tuple[list[str], str]:
    """Word the attributes of a class: ([tone, surface, cut] phrases, view phrase)."""
    *features, view = (rng.choice(PHRASES[name, values[name]]) for name in names_of(class_id))
    return features, view


def sentence(class_name: str, features: list[str], scene: str = "") -> str:
    """Write Template 1: "A photo of the class [y], {with distinctive features}{in specific scenes}."."""
    text = f"A photo of the class {class_name}"
    if features:
        text += " with " + (", ".join(features[:-1]) + " and " if len(features) > 1 else "") + features[-1]
    return text + (f" in {scene}" if scene else "") + "."


def read_back(text: str) -> dict[str, str]:
    """Return the attribute values that a text states; the last statement of an attribute wins."""
    lowered = text.lower()
    found = sorted((lowered.find(phrase), MEANING[phrase]) for phrase in MEANING if phrase in lowered)
    return {name: value for _, (name, value) in found}
