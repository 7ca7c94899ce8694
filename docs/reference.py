"""Pages made from the program and the repository, while Sphinx reads them.

A line ``<!-- recipe keys -->`` becomes the recipe reference, ``<!-- measurements -->`` the stored results, and
"Shown from [FILE](FILE)." the text of that file: a README is a page here and a file where people look for it.
``{recipe-key}`` declares a key; ``{key}`` links to one, and an unknown key is a warning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from ltgc_local.recipe.schema import Recipe
from ltgc_local.recipe.uses import UNUSED
from ltgc_local.recipe.words import _expected

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
#: File of the repository -> the page that shows it, to which links to the file lead.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "data/README.md": "data.md",
    "model_cards/README.md": "models.md",
} | {f"benchmarks/results/{path.name}": "measurements.md" for path in RESULTS.glob("*.md")}
SHOWN = re.compile(r"^Shown from \[.*\]\((.*)\)\.$", re.MULTILINE)
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
SOURCES = {"[paper": "paper", "[released code": "released code", "[IP-Adapter": "IP-Adapter", "urs": "ours"}
#: What a browser fetches by itself when it opens a page or a style sheet.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"'](?:https?:)?//[^\"']+"
    r"|<link\b(?![^>]*rel=[\"'](?:canonical|next|prev))[^>]*\bhref=[\"'](?:https?:)?//[^\"']+"
    r"|url\(\s*[\"']?(?:https?:)?//[^)]+|@import\s+[\"'](?:https?:)?//[^\"']+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Key:
    """One key of a recipe, as the reference prints it."""

    name: str  # dotted
    expected: str
    default: str
    source: str
    meaning: str


def recipe_keys() -> Iterator[Key]:
    """Yield every key of a recipe in the schema's order, blocks' keys under their dotted names."""
    for name, field in Recipe.model_fields.items():
        if _is_block(field):
            yield from (_key(f"{name}.{key}", inner) for key, inner in field.annotation.model_fields.items())
        else:
            yield _key(name, field)


def recipe_reference() -> str:
    """Return the reference as Markdown: a section per block, an entry per key."""
    keys = list(recipe_keys())
    parts = ["## Top level\n", *(_entry(key) for key in keys if "." not in key.name)]
    for name, field in Recipe.model_fields.items():
        if _is_block(field):
            used = " and ".join(method.upper() for method in ("ltgc", "tgn") if name not in UNUSED[method])
            parts.append(f"## `{name}`\n\n{_text(field.annotation.__doc__)}\n\nUsed by {used or 'diffusion'}.\n")
            parts += [_entry(key) for key in keys if key.name.startswith(f"{name}.")]
    return "\n".join(parts)


def measurements() -> str:
    """Return all stored benchmark results as includes, each under a heading of its own."""
    include = "```{{include}} ../benchmarks/results/{}\n:heading-offset: 1\n```\n"
    return "\n".join(include.format(path.name) for path in sorted(RESULTS.glob("*.md")))


def _is_block(field: Any) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _key(name: str, field: Any) -> Key:
    words = " ".join(field.description.split())
    source = ", ".join(word for tag, word in SOURCES.items() if tag in words)
    meaning = re.sub(r" Ours\.$", "", words)
    default = "required" if field.is_required() else _yaml(field.default)
    return Key(name, _expected(field), default, source, meaning)


def _yaml(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f'"{value}"' if value == "" else str(value)


def _text(docstring: str | None) -> str:
    """Return a docstring as Markdown that shows every character: stars are not emphasis, ``x`` is code."""
    paragraphs = re.split(r"\n\s*\n", docstring or "")
    plain = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    pieces = re.split(r"(``.+?``)", plain)
    return "".join(
        piece.replace("``", "`") if piece.startswith("``") else re.sub(r"([*_<>\[\]~{}])", r"\\\1", piece)
        for piece in pieces
    )


def _entry(key: Key) -> str:
    """Return one entry: a line of facts, which the style sheet sets small, and what the key means."""
    default = key.default if key.default == "required" else f"default `{key.default}`"
    facts = f"{_text(key.expected)} · {default} · source: {key.source}"
    return f":::{{recipe-key}} {key.name}\n{{.facts}}\n{facts}\n\n{_text(key.meaning)}\n:::\n"


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the made and the shown texts into a page's source, and lead its links to pages of the site."""
    page = DOCS / f"{docname}.md"

    def shown(found: re.Match[str]) -> str:
        file = (page.parent / found[1]).resolve()
        return _lead_links(file.read_text("utf-8"), file, page)

    text = _lead_links(SHOWN.sub(shown, source[0]), page, page)
    for mark, make in {"<!-- recipe keys -->": recipe_reference, "<!-- measurements -->": measurements}.items():
        if mark in text:
            text = text.replace(mark, make())
    source[0] = text


def _lead_links(text: str, file: Path, page: Path) -> str:
    """Return a file's Markdown with its links as they must be on ``page``; what has no page is left as it is."""

    def lead(found: re.Match[str]) -> str:
        target = (file.parent / found[1]).resolve()
        shown = PAGES.get(target.relative_to(DOCS.parent).as_posix()) if DOCS.parent in target.parents else None
        if shown is not None:
            target = DOCS / shown
        return os.path.relpath(target, page.parent)

    return LINK.sub(lead, text)


def _refuse_what_is_fetched(app: Sphinx, exception: Exception | None) -> None:
    """Fail a build whose pages would load a script, a style, a font or an image from another machine.

    Raises:
        ExtensionError: one would.
    """
    if exception is None:
        pages = [path for suffix in ("html", "css") for path in Path(app.outdir).rglob(f"*.{suffix}")]
        for page in pages:
            if found := FETCHED.search(page.read_text("utf-8")):
                raise ExtensionError(f"{page}: would be fetched from another machine: {found[0]}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register what the pages use."""
    app.add_object_type("recipe-key", "key", objname="recipe key")
    app.connect("source-read", _fill)
    app.connect("build-finished", _refuse_what_is_fetched)
    return {"parallel_read_safe": True}
