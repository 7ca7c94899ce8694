"""Start CDTG's two networks from those of another run, such as one on a larger dataset of the same kind."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import nn

from ltgc_local.errors import ArtefactError
from ltgc_local.runs.arrays import read_tensors
from ltgc_local.runs.schemas import Manifest
from ltgc_local.runs.sealed import read_sealed
from ltgc_local.runs.verify import find_damage

WANTED = "cdtg.start_from is the folder of a finished step: RUN/cdtg/train"

log = logging.getLogger(__name__)


def start_from(folder: Path, generator: nn.Module, discriminator: nn.Module) -> None:
    """Load the weights that have the same name and shape; others, such as the labels', stay as they are.

    Args:
        folder: of another run's step ``cdtg/train``.

    Raises:
        ArtefactError: the files are missing or damaged, or none of their weights fits.
    """
    manifest = read_sealed(folder / "manifest.json", Manifest, WANTED)
    if manifest is None:
        raise ArtefactError(f"{folder / 'manifest.json'}: not there; {WANTED}")
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        path = folder / f"{name}.safetensors"
        if path.name not in manifest.files:
            raise ArtefactError(f"{path}: not there; {WANTED}")
        for _, problem in find_damage(folder, {path.name: manifest.files[path.name]}):
            raise ArtefactError(f"{path}: damaged: {problem}; {WANTED}")
        found, _ = read_tensors(path)
        own = network.state_dict()
        fitting = {key: tensor for key, tensor in found.items() if key in own and own[key].shape == tensor.shape}
        if not fitting:
            raise ArtefactError(
                f"{path}: none of its {len(found)} weights is of this {name}'s shapes; "
                "give cdtg the sizes of that run, or type --set cdtg.start_from=null"
            )
        network.load_state_dict(fitting, strict=False)
        log.warning("cdtg: %d of %d weights of the %s are from %s", len(fitting), len(own), name, folder)
