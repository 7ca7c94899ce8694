"""The paper's templates and prompts, word for word, and the prompts filled from them.

Source: LTGC's slides (CVPR 2024). The odd grammar is the paper's. Differs from the paper: the slides show neither the
layout of a list nor how the form of an answer is requested; the lines that begin with "Write" are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

TEMPLATE_1 = "A photo of the class [y], {with distinctive features}{in specific scenes}."
TEMPLATE_2 = "A photo of the class [y] with {feature 1}{feature 2}{...}."
PROMPT_1 = "Please use the Template 1 to briefly describe the image of the class [y]."
PROMPT_2 = (
    "Besides these descriptions mentioned above, please use the Template 1 to list other possible "
    "{distinctive features} and {specific scenes} for the class [y]."
)
PROMPT_3 = (
    "Please exclude any repetitive {distinctive features} and {specific scenes} "
    "for class [y] in this descriptions list."
)
PROMPT_4 = "Please use Template 2 to summarize the most distinctive features of class [y]."
PROMPT_5 = (
    "This description d doesn't seem to be representative of the class [y]. "
    "Could you refine it to enhance the distinctive features of class [y]?"
)

#: The request for structured output (ours), from which Template 1 is rendered.
_OBJECT = '{"features": ["a distinctive feature", "another"], "scene": "in a specific scene"}'
_AS_OBJECT = f"\nWrite it as JSON: {_OBJECT}"


def fill_describe(class_name: str, is_structured: bool = False) -> str:
    """Fill Prompt 1, which goes to the vision-language model with one image."""
    return f"{_fill(PROMPT_1, class_name)} {_template_1(class_name)}{_AS_OBJECT if is_structured else ''}"


def fill_extend(class_name: str, descriptions: Sequence[str], num_wanted: int, is_structured: bool = False) -> str:
    """Fill Prompt 2, after a list of descriptions that the class already has."""
    ask = _fill(PROMPT_2, class_name)
    form = f'as JSON: {{"descriptions": [{_OBJECT}, ...]}}' if is_structured else "one a line."
    return f"{_list(descriptions)}\n{ask}\n{_template_1(class_name)}\nWrite {num_wanted} descriptions, {form}"


def fill_repetition(class_name: str, descriptions: Sequence[str]) -> str:
    """Fill Prompt 3, after a list of descriptions."""
    return f"{_list(descriptions)}\n{_fill(PROMPT_3, class_name)}\nWrite the descriptions that remain, one a line."


def fill_summarize(class_name: str) -> str:
    """Fill Prompt 4, which asks for C_y, the class feature template."""
    return f'{_fill(PROMPT_4, class_name)} Template 2: "{_fill(TEMPLATE_2, class_name)}"'


def fill_refine(class_name: str, description: str, is_structured: bool = False) -> str:
    """Fill Prompt 5 with a description whose image missed the class."""
    ask = _fill(PROMPT_5, class_name).replace("This description d ", f'This description "{description}" ', 1)
    return f"{ask} {_template_1(class_name)}{_AS_OBJECT if is_structured else ''}"


def fill_form_reminder(class_name: str) -> str:
    """Spell out Template 1's form, for the retry after a reply that did not parse (ours)."""
    return f'Write one sentence that begins "A photo of the class {class_name} with" and ends with a full stop.'


def fill_classify(class_names: Sequence[str]) -> str:
    """Ask the vision-language model for the class of one image: one of these names, or freely without any (ours)."""
    if not class_names:
        return "What does this photo show? Answer with its name and nothing else."
    return f"What does this photo show? Answer with one of these names and nothing else: {', '.join(class_names)}."


def zero_shot_text(class_name: str) -> str:
    """Return the text of CLIP's zero-shot classifier, which also initialises the trained head (CLIP's own template)."""
    return f"a photo of a {class_name}."


def class_sentence(class_name: str) -> str:
    """Return Template 2 without features: C_y's fallback."""
    return f"A photo of the class {class_name}."


def _fill(text: str, class_name: str) -> str:
    return text.replace("[y]", class_name)


def _template_1(class_name: str) -> str:
    return f'Template 1: "{_fill(TEMPLATE_1, class_name)}"'


def _list(descriptions: Sequence[str]) -> str:
    return "\n".join(f"- {description}" for description in descriptions)
