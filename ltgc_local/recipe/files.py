"""Check that the folders which a recipe names are there, and that each role's model card fits.

Reads the cards of ``ltgc_local.model_store``: names and roles, no weights.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ROLES, FewStepCard, ModelCard, list_cards, where_searched
from ltgc_local.recipe.messages import did_you_mean
from ltgc_local.recipe.schema import DiffusionRecipe, Draw, LtgcRecipe, Recipe, T2iModels
from ltgc_local.regular_files import check_regular
from ltgc_local.shipped import shipped_folder
from ltgc_local.yaml_tree import Entry, Problem, locate

#: What makes a shipped benchmark's files, for the message that says they are missing.
DATA_COMMANDS = {"fashion_mnist_lt": "python data/make_fashion_mnist_lt.py"}


class CardFolders:
    """Folders of cards, each read once: the rows of a table mostly share theirs."""

    def __init__(self) -> None:
        self._read: dict[Path, dict[str, ModelCard] | ModelError] = {}

    def cards(self, folder: Path) -> dict[str, ModelCard]:
        """Return the cards of a folder, and after it of ``$LTGC_CARDS``, by their names.

        Raises:
            ModelError: one of them is wrong.
        """
        found = self._read.get(folder)
        if found is None:
            try:
                found = {card.name: card for card in list_cards(folder)}
            except ModelError as error:
                found = error
            self._read[folder] = found
        if isinstance(found, ModelError):
            raise found
        return found


def check_files_of(plain: dict[str, Any], root: Entry, folders: CardFolders, problems: list[Problem]) -> None:
    """Check that the folders are there and that each role's card is in its folder, and of that role."""
    data, models = plain.get("data"), plain.get("models")
    if isinstance(data, dict):
        _check_data(data, root, problems)
    folder = models.get("cards") if isinstance(models, dict) else None
    if not isinstance(folder, Path) or not isinstance(models, dict):
        return
    place = locate(root, ("models", "cards"))[0]
    if not os.path.isdir(folder):
        hint = "give the folder of model cards, such as 'cards: ../model_cards'"
        problems.append(Problem(place, "models.cards", f"no folder {folder}; {hint}"))
        return
    try:
        cards = folders.cards(folder)
    except ModelError as error:
        if not problems:
            raise
        problems.append(Problem(place, "models.cards", str(error)))
        return
    for role in ROLES:
        name = models.get(role)
        if isinstance(name, str):
            text = _card_problem(name, role, cards, folder)
            if text:
                problems.append(Problem(locate(root, ("models", role))[0], f"models.{role}", text))


def check_use_of_t2i(recipe: Recipe, root: Entry, folders: CardFolders, problems: list[Problem]) -> None:
    """Check that the model that draws is used as its card says."""
    if not isinstance(recipe.models, T2iModels):
        return
    try:
        card = folders.cards(recipe.models.cards).get(recipe.models.t2i)
    except ModelError:
        return  # told already
    if card is None or card.role != "t2i":
        return
    if recipe.t2i_decoder == "tiny" and card.tiny_decoder is None:
        text = (
            f"'tiny', but {card.file} names none; remove it, or write there 'tiny_decoder: FOLDER' "
            "(see README.md beside the cards)"
        )
        problems.append(Problem(locate(root, ("draw", "decoder"))[0], "draw.decoder", text))
    if card.few_step is not None and isinstance(recipe, LtgcRecipe):
        _check_few_step(recipe.draw, card, card.few_step, root, problems)
    if card.few_step is not None and isinstance(recipe, DiffusionRecipe):
        text = (
            f"card '{card.name}' is of a distilled model, which training by predicted noise would undo; name the card "
            "of the model that it was distilled from"
        )
        problems.append(Problem(locate(root, ("models", "t2i"))[0], "models.t2i", text))


def _check_few_step(asked: Draw, card: ModelCard, made_for: FewStepCard, root: Entry, problems: list[Problem]) -> None:
    """Check a distilled model's use: with other steps or guidance it draws noise or glare."""

    def add(key: str, found: object, expected: str, value: object) -> None:
        text = f"{found}, but the t2i '{card.name}' was distilled for {expected}; write '{key}: {value}'"
        problems.append(Problem(locate(root, ("draw", key))[0], f"draw.{key}", text))

    if asked.steps not in made_for.steps:
        nearest = min(made_for.steps, key=lambda steps: abs(steps - asked.steps))
        add("steps", asked.steps, f"{' or '.join(map(str, made_for.steps))} steps", nearest)
    if asked.guidance > max(1, made_for.guidance):
        most = f"guidance {made_for.guidance:g} at most" if made_for.guidance > 1 else "no guidance"
        add("guidance", f"{asked.guidance:g}", most, f"{made_for.guidance:g}")


def _check_data(data: dict[str, Any], root: Entry, problems: list[Problem]) -> None:
    benchmark = data.get("benchmark", "fashion_mnist_lt")
    command = DATA_COMMANDS.get(benchmark) if isinstance(benchmark, str) else None
    guide = f"{shipped_folder()}/data/README.md says what belongs there"
    hint = f"; its files are made by: {command}" if command else f"; {guide}"
    for key, kind, look in (
        ("root", "folder", _look_at_folder),
        ("lists", "folder", _look_at_folder),
        ("class_names", "file", check_regular),
    ):
        path = data.get(key)
        if not isinstance(path, Path):
            continue
        try:
            look(path)
        except (FileNotFoundError, NotADirectoryError):
            problems.append(Problem(locate(root, ("data", key))[0], f"data.{key}", f"no {kind} {path}{hint}"))
        except OSError as error:
            text = f"{path}: cannot be read: {error.strerror}"
            problems.append(Problem(locate(root, ("data", key))[0], f"data.{key}", text))


def _look_at_folder(path: Path) -> None:
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _card_problem(name: str, role: str, cards: dict[str, ModelCard], folder: Path) -> str:
    card = cards.get(name)
    if card is not None and card.role == role:
        return ""
    fitting = [other.name for other in cards.values() if other.role == role]
    there = f"cards of role {role}: {', '.join(fitting) or 'none'}"
    if card is not None:
        return f"card '{name}' has role {card.role}, not {role}; {there}"
    return f"no card '{name}' in {where_searched(folder)}; {there}{did_you_mean(name, fitting or cards)}"
