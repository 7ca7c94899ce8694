"""What is on this machine: model cards, the folders of weights that they name, and their digests."""

from ltgc_local.store.cards import (
    ROLES,
    FewStepCard,
    ModelCard,
    Role,
    find_card,
    list_cards,
    read_card,
)
from ltgc_local.store.digest import check_safetensors, digest_file, digest_folder, model_files
from ltgc_local.store.folders import check_model_folder, model_folder

__all__ = [
    "ROLES",
    "FewStepCard",
    "ModelCard",
    "Role",
    "check_model_folder",
    "check_safetensors",
    "digest_file",
    "digest_folder",
    "find_card",
    "list_cards",
    "model_files",
    "model_folder",
    "read_card",
]
