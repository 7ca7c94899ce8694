"""The folder of weights that a card names: where it is, and whether it is whole, safe and the card's architecture.

It is relative to ``$LTGC_MODELS`` where that holds it, else to the card's own folder. Nothing is downloaded, and no
pickle is ever loaded: a folder that needs one is refused.
"""

from __future__ import annotations

import os
from pathlib import Path

from ltgc_local.errors import ModelError
from ltgc_local.store.architecture import check_architecture, read_json, weight_folders
from ltgc_local.store.cards import ModelCard
from ltgc_local.store.digest import check_safetensors, digest_file, model_files

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def model_folder(card: ModelCard) -> Path:
    """Return the folder of the card's weights, absolute: in ``$LTGC_MODELS`` if it is there, else beside the card."""
    places = _places(card)
    return next((place for place in places if place.is_dir()), places[-1]).resolve()


def check_model_folder(card: ModelCard, *, hash_files: bool = True) -> Path:
    """Check that the card's weights are there, whole, safetensors and its architecture's; return their folder.

    What else a publisher ships beside them (other frameworks' files, single-file copies) is neither needed nor read.

    Args:
        hash_files: also compare with the card's sha256, which reads the files that it lists from end to end.

    Raises:
        ModelError: what is wrong, and where the weights should be.
    """
    folder = model_folder(card)
    if not folder.is_dir():
        places = [str(place) for place in _places(card)[:-1]] + [str(folder)]
        if len(places) == 1 and _may_be_elsewhere(card):
            places.insert(0, f"$LTGC_MODELS/{card.path} ($LTGC_MODELS is not set)")
        where = " or at ".join(places)
        raise ModelError(f"{card.file}: no weights of '{card.name}': put the folder at {where}; source: {card.source}")
    check_architecture(card, folder)
    files = model_files(folder)
    for part in weight_folders(card, folder):
        _check_has_weights(part, [file for file in files if file.parent == part], card)
    for file in files:
        if file.suffix == ".safetensors":
            check_safetensors(file)
    for index in (file for file in files if file.name.endswith(".safetensors.index.json")):
        _check_index(index)
    for name, expected in card.sha256.items() if hash_files else ():
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name}: not there, but {card.file} lists it under sha256")
        found = digest_file(folder / name)
        if found != expected:
            raise ModelError(f"{folder / name}: sha256 is {found}, but {card.file} says {expected}; copy it again")
    return folder


def _places(card: ModelCard) -> list[Path]:
    """Return where the card's folder may be, the first choice first and the one beside the card last."""
    models = os.environ.get("LTGC_MODELS")
    elsewhere = [Path(models).expanduser() / card.path] if models and _may_be_elsewhere(card) else []
    return [*elsewhere, card.file.parent / card.path]


def _may_be_elsewhere(card: ModelCard) -> bool:
    """Return whether ``$LTGC_MODELS`` counts: not for a path that is absolute, or that climbs out of its folder."""
    return not Path(card.path).is_absolute() and ".." not in Path(card.path).parts


def _check_has_weights(folder: Path, files: list[Path], card: ModelCard) -> None:
    if any(file.suffix == ".safetensors" for file in files):
        return
    pickles = [file for file in files if file.suffix in PICKLES and not file.name.startswith("openvino")]
    if pickles:
        raise ModelError(
            f"{pickles[0]}: weights as a pickle, which can run any code when loaded; never loaded here. "
            f"Get or make {folder / 'model.safetensors'} instead"
        )
    raise ModelError(f"{folder}: no *.safetensors in the folder of '{card.name}'; source: {card.source}")


def _check_index(index: Path) -> None:
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict):
        raise ModelError(f"{index}: not an index of safetensors (no 'weight_map')")
    names = sorted(set(map(str, table.values())))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(f"{index}: lists {len(names)} files, of which {missing[0]} is not there; copy it again")
