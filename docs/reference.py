"""Pages made from the program and the repository, while Sphinx reads them.

A line ``<!-- recipe keys -->`` becomes the recipe reference, ``<!-- site profile -->`` the site profile's keys,
``<!-- measurements -->`` the stored results, and
"Shown from [FILE](FILE)." the text of that file: a README is a page here and a file where people look for it.
``{recipe-key}`` declares a key; ``{key}`` links to one, and an unknown key is a warning.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from ltgc_local.recipe.markers import block_of
from ltgc_local.recipe.messages import block_keys, describe_values
from ltgc_local.recipe.reference import Key, iterate_keys
from ltgc_local.recipe.schema import VARIANTS
from ltgc_local.slurm.profile import Profile

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
#: Kind of recipe, as ``iterate_keys`` names it -> in words.
KINDS = {
    "ltgc": "LTGC",
    "tgn wavelet_gan": "TGN",
    "tgn diffusion classes": "TGN-style diffusion",
    "tgn diffusion descriptions": "TGN-style diffusion from descriptions",
}
#: What a browser fetches by itself when it opens a page or a style sheet.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"'](?:https?:)?//[^\"']+"
    r"|<link\b(?![^>]*rel=[\"'](?:canonical|next|prev))[^>]*\bhref=[\"'](?:https?:)?//[^\"']+"
    r"|url\(\s*[\"']?(?:https?:)?//[^)]+|@import\s+[\"'](?:https?:)?//[^\"']+",
    re.IGNORECASE,
)


def recipe_reference() -> str:
    """Return the reference as Markdown: a section per block, an entry per key."""
    blocks: dict[str, list[Key]] = {"": []}
    for key in iterate_keys():
        blocks.setdefault(key.name.rpartition(".")[0], []).append(key)
    parts = ["## Outside any block\n"]
    for block, keys in blocks.items():
        kinds = list(dict.fromkeys(kind for key in keys for kind in key.recipes))
        if block:
            parts.append(f"## `{block}`\n\n{_text(_about(block))}\n\n{_used_by(kinds)}\n")
        parts += [_entry(key, "" if set(key.recipes) == set(kinds) else _used_by(key.recipes)) for key in keys]
    return "\n".join(parts)


def _about(block: str) -> str | None:
    """Return what the first recipe that has a block says of it."""
    fields = next(recipe.model_fields for recipe in VARIANTS.values() if block in recipe.model_fields)
    return fields[block].annotation.__doc__


def site_profile() -> str:
    """Return the keys of the site profile as Markdown: a table per block."""
    parts = []
    for block, keys in block_keys(Profile).items():
        model = block_of(Profile.model_fields[block]) if block else Profile
        rows = [(name, model.model_fields[name]) for name in keys if block_of(model.model_fields[name]) is None]
        about = f"### `{block}`\n\n{_text(model.__doc__)}" if block else "### Outside any block"
        parts.append(f"{about}\n\n| key | value | default | meaning |\n|---|---|---|---|")
        for name, field in rows:
            values = _text(describe_values((block, name) if block else (name,), field)).replace("|", "\\|")
            default = json.dumps(field.default, ensure_ascii=False)
            parts.append(f"| `{name}` | {values} | `{default}` | {_text(field.description)} |")
        parts.append("")
    return "\n".join(parts).replace("---|\n\n", "---|\n")


def measurements() -> str:
    """Return all stored benchmark results as includes, each under a heading of its own."""
    include = "```{{include}} ../benchmarks/results/{}\n:heading-offset: 1\n```\n"
    return "\n".join(include.format(path.name) for path in sorted(RESULTS.glob("*.md")))


def _used_by(kinds: Iterable[str]) -> str:
    names = [KINDS[kind] for kind in kinds]
    if len(names) == len(KINDS):
        return "Used by every recipe."
    return f"Used by {', '.join(names[:-1])} and {names[-1]}." if len(names) > 1 else f"Used by {names[0]}."


def _text(docstring: str | None) -> str:
    """Return a docstring as Markdown that shows every character: stars are not emphasis, ``x`` is code."""
    paragraphs = re.split(r"\n\s*\n", docstring or "")
    plain = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    pieces = re.split(r"(``.+?``)", plain)
    return "".join(
        piece.replace("``", "`") if piece.startswith("``") else re.sub(r"([*_<>\[\]~{}])", r"\\\1", piece)
        for piece in pieces
    )


def _entry(key: Key, used_by: str) -> str:
    """Return one entry: a line of facts, which the style sheet sets small, and what the key means."""
    default = f"default `{key.default}`" if key.default else "required"
    facts = [_text(key.values), default, f"source: {key.source}"]
    if key.changes != "results":
        facts.append(f"changes {key.changes}")
    text = f"{_text(key.meaning)} {used_by}".rstrip()
    return f":::{{recipe-key}} {key.name}\n{{.facts}}\n{' · '.join(facts)}\n\n{text}\n:::\n"


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the made and the shown texts into a page's source, and lead its links to pages of the site."""
    page = DOCS / f"{docname}.md"

    def shown(found: re.Match[str]) -> str:
        file = (page.parent / found[1]).resolve()
        return _lead_links(file.read_text("utf-8"), file, page)

    text = _lead_links(SHOWN.sub(shown, source[0]), page, page)
    made = {"<!-- recipe keys -->": recipe_reference, "<!-- site profile -->": site_profile}
    for mark, make in {**made, "<!-- measurements -->": measurements}.items():
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
