"""Extend with SmolLM2-135M, a small language model of general use: K_y is reached exactly, or what is missing reported.

It is not in the repository: tests/make_smollm2.py says how to get it, and LTGC_SMOLLM2 names its folder. A few minutes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ltgc_local.backends.protocols import TextOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.runs.files import Lines

FOLDER = os.environ.get("LTGC_SMOLLM2", "")
MAX_ASKS, MAX_DESCRIPTIONS = 8, 30
SETTINGS = ("describe.tail_below=20", f"extend.max_descriptions={MAX_DESCRIPTIONS}", f"extend.max_asks={MAX_ASKS}")
SETTINGS += ("extend.per_ask=5", "extend.context_descriptions=6", "extend.max_new_tokens=200")

pytestmark = [
    pytest.mark.real_llm,
    pytest.mark.skipif(not FOLDER, reason="LTGC_SMOLLM2 names no folder; see tests/make_smollm2.py"),
]


def test_the_number_is_reached_exactly_or_the_shortfall_reported(
    make_stage: Any, write_step: Any, records_of: Any
) -> None:
    seen = make_stage("describe", *SETTINGS)
    existing = [
        description for chunk in seen.chunks() for description in records_of(seen.make_chunk(chunk), "descriptions")
    ]
    llm = load_model("llm", "transformers", Path(FOLDER), TextOptions(device="cpu", dtype="float32"))
    stage = make_stage("extend", *SETTINGS, model=llm)
    write_step(stage.run, "describe", Lines("descriptions", existing))
    (chunk,) = stage.chunks()
    artefacts = stage.make_chunk(chunk)
    descriptions, rejected = records_of(artefacts, "descriptions"), records_of(artefacts, "rejected")
    (summary,) = (artefact.value for artefact in artefacts if artefact.kind == "summary")
    names = stage.corpus.class_names
    assert set(summary) == {"coat", "dress"} == {names[class_id] for class_id in chunk}
    for name, counts in summary.items():
        texts = [d.text for d in descriptions if names[d.class_id] == name]
        reasons = Counter(r.reason for r in rejected if names[r.class_id] == name)
        print(f"\n{name}: K_y {MAX_DESCRIPTIONS}, {counts}; not used: {dict(reasons.most_common())}")
        assert counts["extended"] == len(texts) == len(set(texts))
        assert counts["existing"] + counts["extended"] + counts["missing"] == MAX_DESCRIPTIONS
        assert counts["missing"] == 0 or counts["asks"] == MAX_ASKS
        assert all(re.fullmatch(rf"A photo of the class {name} [^\n{{}}\[\]<>]+\.", text) for text in texts)
        assert all(reasons)
    replies = [exchange.reply for exchange in records_of(artefacts, "exchanges")]
    assert len(set(replies)) > len(replies) / 2  # it did answer, each time anew
    print(*(f"  {d.text}" for d in descriptions), f"cut: {len(records_of(artefacts, 'cut'))}", sep="\n")
