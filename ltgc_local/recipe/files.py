"""Check that the folders named by a recipe exist and that each role's model card fits.

Reads the cards of ``ltgc_local.model_store`` (names and roles), no weights.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ROLES, ModelCard, list_cards, where_searched
from ltgc_local.recipe.block import Conflict
from ltgc_local.recipe.inputs import T2iModels
from ltgc_local.recipe.messages import did_you_mean
from ltgc_local.recipe.schema import DiffusionRecipe, LtgcRecipe, Recipe
from ltgc_local.regular_files import check_regular
from ltgc_local.shipped import shipped_folder

#: The command that makes a shipped benchmark's files, for the message that says they are missing.
DATA_COMMANDS = {"fashion_mnist_lt": "python data/make_fashion_mnist_lt.py"}

#: Folder -> its cards by name, and those of ``$LTGC_CARDS``; or why they cannot be read.
ReadCards = Callable[[Path], dict[str, ModelCard] | ModelError]


def read_cards(folder: Path) -> dict[str, ModelCard] | ModelError:
    try:
        return {card.name: card for card in list_cards(folder)}
    except ModelError as error:
        return error


def check_data(plain: dict[str, Any]) -> Iterator[Conflict]:
    """Yield which of the folders and the file that ``data`` names do not exist."""
    data = plain.get("data")
    if not isinstance(data, dict):
        return
    benchmark = data.get("benchmark", "fashion_mnist_lt")
    command = DATA_COMMANDS.get(benchmark) if isinstance(benchmark, str) else None
    guide = f"{shipped_folder()}/data/README.md says what belongs there"
    hint = f"; its files are made by: {command}" if command else f"; {guide}"
    looks = (("root", "folder", _look_at_folder), ("lists", "folder", _look_at_folder))
    for key, kind, look in (*looks, ("class_names", "file", check_regular)):
        path = data.get(key)
        if not isinstance(path, Path):
            continue
        try:
            look(path)
        except (FileNotFoundError, NotADirectoryError):
            yield f"data.{key}", f"no {kind} {path}{hint}"
        except OSError as error:
            yield f"data.{key}", f"{path}: cannot be read: {error.strerror}"


def _look_at_folder(path: Path) -> None:
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def check_cards(plain: dict[str, Any], read: ReadCards) -> Iterator[Conflict]:
    """Yield which role's card is not in the folder of cards, or not of that role.

    Raises:
        ModelError: a card in the folder is wrong.
    """
    models = plain.get("models")
    folder = models.get("cards") if isinstance(models, dict) else None
    if not isinstance(folder, Path) or not isinstance(models, dict):
        return
    if not os.path.isdir(folder):
        yield "models.cards", f"no folder {folder}; give the folder of model cards, such as 'cards: ../model_cards'"
        return
    cards = read(folder)
    if isinstance(cards, ModelError):
        raise cards
    for role in ROLES:
        name = models.get(role)
        card = cards.get(name) if isinstance(name, str) else None
        if not isinstance(name, str) or (card is not None and card.role == role):
            continue
        fitting = [other.name for other in cards.values() if other.role == role]
        there = f"cards of role {role}: {', '.join(fitting) or 'none'}"
        if card is not None:
            yield f"models.{role}", f"card '{name}' has role {card.role}, not {role}; {there}"
        else:
            absent = f"no card '{name}' in {where_searched(folder)}"
            yield f"models.{role}", f"{absent}; {there}{did_you_mean(name, fitting or cards)}"


def check_use_of_t2i(recipe: Recipe, read: ReadCards) -> Iterator[Conflict]:
    """Yield where the text-to-image model is not used as its card says.

    A distilled model, asked for other steps or guidance than it was made for, generates noise or glare.
    """
    cards = read(recipe.models.cards) if isinstance(recipe.models, T2iModels) else {}
    card = cards.get(recipe.models.t2i) if isinstance(recipe.models, T2iModels) and isinstance(cards, dict) else None
    if card is None or card.role != "t2i":
        return  # reported already
    if recipe.t2i_decoder == "tiny" and card.tiny_decoder is None:
        remedy = "remove it, or write there 'tiny_decoder: FOLDER' (see README.md next to the cards)"
        yield "draw.decoder", f"'tiny', but {card.file} names none; {remedy}"
    made_for = card.few_step
    if made_for is not None and isinstance(recipe, LtgcRecipe):
        distilled, asked = f"but the t2i '{card.name}' was distilled for", recipe.draw
        if asked.steps not in made_for.steps:
            nearest = min(made_for.steps, key=lambda steps: abs(steps - asked.steps))
            expected = " or ".join(map(str, made_for.steps))
            yield "draw.steps", f"{asked.steps}, {distilled} {expected} steps; write 'steps: {nearest}'"
        if asked.guidance > max(1, made_for.guidance):
            most = f"guidance {made_for.guidance:g} at most" if made_for.guidance > 1 else "no guidance"
            remedy = f"write 'guidance: {made_for.guidance:g}'"
            yield "draw.guidance", f"{asked.guidance:g}, {distilled} {most}; {remedy}"
    if made_for is not None and isinstance(recipe, DiffusionRecipe):
        distilled = f"card '{card.name}' is of a distilled model, which training by predicted noise would undo"
        yield "models.t2i", f"{distilled}; name the card of the model that it was distilled from"
