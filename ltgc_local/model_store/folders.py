"""The folder of weights that a card names: where it is, and whether it is complete, safe and the card's architecture.

It is relative to the first folder of ``$LTGC_MODELS`` that has it, otherwise to the card's own folder. Nothing is
downloaded, and no pickle is ever loaded: a folder that holds one, or another program, is refused before a library opens
anything in it (``ltgc_local.model_store.files`` by names, ``.configuration`` by the JSON files, ``.templates``).
"""

from __future__ import annotations

import os
from pathlib import Path

from ltgc_local.errors import BackendError, ModelError
from ltgc_local.model_store.architecture import check_architecture, open_clip_weights, weight_folders
from ltgc_local.model_store.cards import ModelCard, folders_of
from ltgc_local.model_store.configuration import read_configurations
from ltgc_local.model_store.files import check_kind, model_files, problems_of_names
from ltgc_local.model_store.safetensors_files import check_safetensors
from ltgc_local.model_store.templates import problem_of_templates, read_template
from ltgc_local.out_of_memory import is_out_of_memory
from ltgc_local.regular_files import digest_file

MOST_PROBLEMS = 50  # listed for one folder


class NoWeightsError(ModelError):
    """The card's weights are not on this machine yet."""


def model_folder(card: ModelCard) -> Path:
    """Return the folder of the card's weights, absolute: the first in ``$LTGC_MODELS``, else next to the card."""
    places = _places(card)
    return Path(os.path.realpath(next((place for place in places if os.path.isdir(place)), places[-1])))


def check_model_folder(card: ModelCard, *, hash_files: bool = True) -> Path:
    """Check that the card's weights are there, complete, safe, and of its architecture; return their folder.

    Args:
        hash_files: also compare with the card's sha256, which means reading the listed files completely.

    Raises:
        NoWeightsError: the folder is missing; says where it should be.
        ModelError: says what is wrong; lists everything that could run code, one per line.
        BackendError: there is not enough memory for the check.
    """
    folder = model_folder(card)
    if not os.path.isdir(folder):
        raise NoWeightsError(f"{card.file}: no weights of '{card.name}': {_where_to_put(card, folder)}")
    try:
        _check_content(card, folder)
        if hash_files:
            _check_digests(card, folder)
    except (MemoryError, OSError) as problem:
        if not isinstance(problem, OSError) or is_out_of_memory(problem):
            words = "out of memory while it is checked; end what else uses the memory"
            raise BackendError(f"{folder}: {words}") from problem
        raise ModelError(f"{problem.filename or folder}: cannot be read: {problem.strerror}") from problem
    return folder


def _check_content(card: ModelCard, folder: Path) -> None:
    files = model_files(folder)
    for file in files:
        check_kind(file)
    problems = problems_of_names(card, folder, files)
    more, templates = read_configurations(card, folder, files)
    templates += ((file, read_template(file)) for file in files if file.suffix == ".jinja")
    problems += filter(None, [*more, problem_of_templates(templates)])
    if problems:
        rest = len(problems) - MOST_PROBLEMS
        raise ModelError("\n".join([*problems[:MOST_PROBLEMS], *([f"{folder}: {rest} more"] if rest > 0 else [])]))
    check_architecture(card, folder)
    for part in weight_folders(card, folder):
        if not any(file.parent == part and file.suffix == ".safetensors" for file in files):
            raise ModelError(f"{part}: no *.safetensors in the folder of '{card.name}'; source: {card.source}")
    if card.family == "open_clip":
        open_clip_weights(folder)
    for file in files:
        if file.suffix == ".safetensors":
            check_safetensors(file)


def _check_digests(card: ModelCard, folder: Path) -> None:
    for name, expected in card.sha256.items():
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: not there, but {card.file} lists it under sha256")
        found = digest_file(folder / name)
        if found != expected:
            raise ModelError(f"{folder / name}: sha256 is {found}, but {card.file} says {expected}; copy it again")


def _where_to_put(card: ModelCard, folder: Path) -> str:
    places = [str(place) for place in _places(card)[:-1]] + [str(folder)]
    if len(places) == 1 and _may_be_elsewhere(card):
        places.insert(0, f"$LTGC_MODELS/{card.path} ($LTGC_MODELS is not set)")
    return f"put the folder at {' or at '.join(places)}; source: {card.source}"


def _places(card: ModelCard) -> list[Path]:
    """Return where the card's folder may be, in order; the one relative to the card is last."""
    elsewhere = [folder / card.path for folder in folders_of("LTGC_MODELS")] if _may_be_elsewhere(card) else []
    return [*elsewhere, card.file.parent / card.path]


def _may_be_elsewhere(card: ModelCard) -> bool:
    """Return whether ``$LTGC_MODELS`` is searched: not for an absolute path, or one that climbs out of its folder."""
    return not Path(card.path).is_absolute() and ".." not in Path(card.path).parts
