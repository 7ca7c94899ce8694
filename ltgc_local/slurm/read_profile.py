"""Read and check a site profile, and report every problem at once, with its line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ltgc_local.errors import RecipeError
from ltgc_local.recipe.markers import block_of
from ltgc_local.recipe.messages import (
    block_keys,
    describe_missing,
    describe_value_problem,
    did_you_mean,
    field_at,
    sort_problems,
)
from ltgc_local.regular_files import read_text
from ltgc_local.slurm.profile import Profile
from ltgc_local.yaml_tree import MAX_BYTES, Entry, Place, Problem, locate, parse_yaml

VARIABLES = ("environment", "variables")
WRITE_ONE = "to write one, type: ltgc-local slurm profile"


def default_path() -> Path:
    """Return where a user's profile is: ~/.config/ltgc-local/site.yaml, or in $XDG_CONFIG_HOME."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~/.config"))
    return folder / "ltgc-local" / "site.yaml"


def read_profile(path: Path | None = None) -> Profile:
    """Read a profile; by default the user's, or, if there is none, the schema's defaults.

    Raises:
        RecipeError: with every problem found, one per line.
    """
    if path is None and not os.path.lexists(default_path()):
        return Profile()
    file = path or default_path()
    try:
        text = read_text(file, MAX_BYTES)
    except FileNotFoundError:
        raise RecipeError(f"{file}: no such site profile; {WRITE_ONE}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{file}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read: {error.strerror}") from None
    return parse_profile(text, str(file))


def parse_profile(text: str, source: str) -> Profile:
    """Check a profile's text.

    Args:
        source: what messages call the file.

    Raises:
        RecipeError: as ``read_profile``.
    """
    place, problems = Place(source, 0, Path()), list[Problem]()
    root = parse_yaml(text, place, problems, "site profile")
    if root is None or problems:
        raise RecipeError(sort_problems(problems))
    if root.value is None:
        return Profile()
    if not isinstance(root.value, dict):
        raise RecipeError(f"{source}:1: expected keys such as 'gpu:' and 'limits:'; found no key at all")
    try:
        return Profile.model_validate({key: _plain(entry, (key,)) for key, entry in root.value.items()})
    except ValidationError as error:
        for details in error.errors(include_url=False):
            problems += _explain(dict(details), root)
    raise RecipeError(sort_problems(problems))


def _plain(entry: Any, loc: tuple[str, ...]) -> Any:
    """Return an entry's value as the schema expects it; a block without keys is a block."""
    value = entry.value
    if loc[:-1] == VARIABLES and not isinstance(value, dict | list):
        return entry.text  # of a variable: 8 and true are texts, too
    if isinstance(value, dict):
        return {key: _plain(inner, (*loc, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, loc) for inner in value]
    field = field_at(Profile, loc)
    if value is None and field is not None and block_of(field) is not None and not entry.text:
        return {}
    return value


def _explain(error: dict[str, Any], root: Entry) -> list[Problem]:
    """Turn one of pydantic's errors into problems in plain words."""
    loc = tuple(str(part) for part in error["loc"][:2])
    if error["type"] == "conflict":
        paths = [(".".join((*loc, key)), text) for key, text in error["ctx"]["found"]]
        return [Problem(locate(root, tuple(path.split(".")))[0], path, text) for path, text in paths]
    place, entry = locate(root, loc)
    block, key, path = ".".join(loc[:-1]), loc[-1], ".".join(loc)
    field = field_at(Profile, loc)
    if error["type"] == "missing" and field is not None:
        return [Problem(place, block, describe_missing(key, field))]
    if error["type"] == "extra_forbidden":
        return [Problem(place, block, f"unknown key '{key}'{_meant(block, key)}")]
    if field is None or entry is None:
        return [Problem(place, path, error["msg"])]
    if inner := block_of(field):
        return [Problem(place, path, f"expected a block of keys, such as {', '.join(list(inner.model_fields)[:3])}")]
    if loc == VARIABLES and isinstance(entry.value, dict):
        place, wrong = locate(root, tuple(map(str, error["loc"][:3])))
        expected = "a name of letters, digits and '_', and one line of text"
        return [Problem(place, f"{path}.{error['loc'][2]}", f"expected {expected}")]
    if len(error["loc"]) > 2 and isinstance(entry.value, list):  # an item of a list
        number = error["loc"][2]
        wrong = entry.value[number] if isinstance(number, int) and number < len(entry.value) else entry
        return [Problem(wrong.place, path, describe_value_problem(loc, field, wrong))]
    return [Problem(place, path, describe_value_problem(loc, field, entry))]


def _meant(block: str, key: str) -> str:
    """Return where an unknown key belongs, what was probably meant, or which keys there are."""
    blocks = block_keys(Profile)
    if block not in blocks:
        return ""
    if guess := did_you_mean(key, blocks[block], cutoff=0.7):
        return guess
    homes = [f"'{name}'" if name else "the top" for name, keys in blocks.items() if key in keys and name != block]
    if homes:
        return f"; it belongs in {' or '.join(homes)}"
    return f"; the keys {'of ' + repr(block) if block else 'of a site profile'} are {', '.join(blocks[block])}"
