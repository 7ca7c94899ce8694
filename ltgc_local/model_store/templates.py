"""Chat templates: Jinja programs in a model's folder, checked before a model library renders them.

The libraries render them in Jinja's sandbox, which protects Python's inner objects but does not stop endless loops or
unlimited memory use. So each template is searched for what no chat template needs, and then rendered with a text
conversation and one with an image, within limits of time and memory. A template that calls ``raise_exception`` or lacks
something for these conversations is not refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from ltgc_local.errors import ModelError
from ltgc_local.model_store.limits import TooSlowError, memory_limit, time_limit
from ltgc_local.printable import printable
from ltgc_local.regular_files import MIB, read_text

MAX_BYTES = 1_000_000
SECONDS, MEMORY_MIB = 2, 512

REMEDY = "copy the publisher's template again, or remove it and use another model"

_TEXT = [
    {"role": "system", "content": "You are concise."},
    {"role": "user", "content": "Name a class."},
    {"role": "assistant", "content": "A coat."},
    {"role": "user", "content": "Describe it."},
]
_IMAGE = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Describe the class coat."}]},
    {"role": "assistant", "content": [{"type": "text", "text": "It is long."}]},
    {"role": "user", "content": [{"type": "text", "text": "Again."}]},
]
_WORDS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def templates_in(value: object) -> Iterator[str]:
    """Yield the templates in a JSON file's ``chat_template``: a text, a list of {name, template}, or a dict by name."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (
            each["template"] for each in value if isinstance(each, dict) and isinstance(each.get("template"), str)
        )
    elif isinstance(value, dict):
        yield from (each for each in value.values() if isinstance(each, str))


def read_template(file: Path) -> str:
    """Read a template's file; a ModelError says that it is not text."""
    try:
        return read_text(file, MAX_BYTES)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{file}: not text in UTF-8; {REMEDY}") from error


def problem_of_templates(templates: Iterable[tuple[Path, str]]) -> str:
    """Return why the first bad one of a folder's templates is refused, or ""; they share one time limit."""
    end = time.monotonic() + SECONDS
    for file, text in templates:
        words = _problem_of(text, max(0.01, end - time.monotonic()))
        if words:
            return f"{file}: {printable(words)}; {REMEDY}"
    return ""


def _problem_of(text: str, seconds: float) -> str:
    if len(text) > MAX_BYTES:
        return f"a chat template of {len(text)} characters, but at most {MAX_BYTES} are read"
    is_its_limit = False
    try:
        with memory_limit(MEMORY_MIB * MIB) as is_its_limit, time_limit(seconds):
            return _forbidden(text) or _rendered(text)
    except TooSlowError:
        return f"the chat template takes more than {SECONDS} s for a conversation of four turns"
    except MemoryError:
        if not is_its_limit:
            raise
        return f"the chat template needs more than {MEMORY_MIB} MiB of memory"
    except RecursionError:
        return "the chat template calls itself without end, or is nested too deeply"


def raise_too_slow(folder: str, seconds: float) -> NoReturn:
    """Raise the ModelError for a loaded model whose template takes too long."""
    raise ModelError(f"{folder}: its chat template takes more than {seconds:g} s for one conversation; {REMEDY}")


def _forbidden(text: str) -> str:
    """Return which part of the template no chat template needs, or ""."""
    from jinja2 import TemplateSyntaxError, nodes

    try:
        tree = _environment().parse(text)
    except TemplateSyntaxError as error:
        return f"the chat template is not valid Jinja, line {error.lineno}: {error.message}"
    loads = next(tree.find_all((nodes.Import, nodes.Include, nodes.Extends, nodes.FromImport)), None)
    if loads is not None:
        return f"the chat template reads another template (line {loads.lineno}: {type(loads).__name__.lower()})"
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.NSRef, nodes.Filter)):
        name = _name_in(node)
        if name.startswith("_"):
            return f"the chat template reaches for {name[:80]!r} (line {node.lineno}), a part of Python's own objects"
    return ""


def _name_in(node: Any) -> str:
    """Return the name with which an expression reaches into an object, if it is literal, or ""."""
    from jinja2 import nodes

    if isinstance(node, nodes.Getattr | nodes.NSRef):
        return node.attr
    key = node.arg if isinstance(node, nodes.Getitem) else None
    if isinstance(node, nodes.Filter):
        key = node.args[0] if node.args and node.name in ("attr", "map") else None
        if node.name == "map":  # map("attr", "__class__") and map(attribute="__class__")
            named = [each.value for each in node.kwargs if each.key == "attribute"]
            key = next(iter(named or node.args[1:2]), None)
    return str(key.value) if isinstance(key, nodes.Const) and isinstance(key.value, str) else ""


def _rendered(text: str) -> str:
    """Render a text conversation and one with an image; return what the sandbox forbids, or ""."""
    from jinja2 import TemplateError
    from jinja2.exceptions import SecurityError

    template = _environment().from_string(text)
    for messages in (_TEXT, _IMAGE):
        try:
            template.render(messages=messages, add_generation_prompt=True, enable_thinking=False, **_WORDS)
        except SecurityError as error:
            return f"the chat template does what Jinja's sandbox forbids: {error}"
        except RecursionError:
            raise
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError):
            continue  # it wants other turns than these, and fails in whatever way comes first
    return ""


def _environment() -> Any:
    """Return Jinja set up as the model libraries do for chat templates."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}``: marks an assistant's words, which are rendered unchanged."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    def raise_exception(message: object) -> NoReturn:
        raise TemplateError(str(message))

    def tojson(value: Any, **options: Any) -> str:
        return json.dumps(value, **({"ensure_ascii": False} | options))

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return environment
