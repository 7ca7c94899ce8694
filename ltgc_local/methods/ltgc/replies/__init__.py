"""From what a model wrote to descriptions: Template 1 in free text or JSON, repetition, and the token budget.

A reply that does not parse is data, never an exception: what is dropped keeps its reason. Pure: no model, no disk.
"""

from ltgc_local.methods.ltgc.replies.parsing import ParsedReply, parse_descriptions
from ltgc_local.methods.ltgc.replies.repetition import RepetitionCheck, kept_by_repetition_check, normal_form
from ltgc_local.methods.ltgc.replies.structured import DESCRIPTION_SCHEMA, descriptions_schema
from ltgc_local.methods.ltgc.replies.template_1 import (
    CUT_OFF,
    MAX_CHARACTERS,
    NO_OPENING,
    Reading,
    parse_sentence,
    render,
)
from ltgc_local.methods.ltgc.replies.token_budget import cut_to_tokens

__all__ = [
    "CUT_OFF",
    "DESCRIPTION_SCHEMA",
    "MAX_CHARACTERS",
    "NO_OPENING",
    "ParsedReply",
    "Reading",
    "RepetitionCheck",
    "cut_to_tokens",
    "descriptions_schema",
    "kept_by_repetition_check",
    "normal_form",
    "parse_descriptions",
    "parse_sentence",
    "render",
]
