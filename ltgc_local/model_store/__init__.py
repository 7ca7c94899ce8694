"""What is on this machine: model cards, the folders of weights that they name, and their digests."""

from ltgc_local.model_store.architecture import open_clip_weights
from ltgc_local.model_store.cards import (
    ROLES,
    TEXT_ROLES,
    FewStepCard,
    ModelCard,
    Role,
    find_card,
    list_cards,
    read_card,
    where_searched,
)
from ltgc_local.model_store.files import digest_folder, model_files, read_json
from ltgc_local.model_store.folders import NoWeightsError, check_model_folder, model_folder
from ltgc_local.model_store.limits import TooSlowError, time_limit
from ltgc_local.model_store.safetensors_files import check_safetensors
from ltgc_local.model_store.templates import raise_too_slow

__all__ = [
    "ROLES",
    "TEXT_ROLES",
    "FewStepCard",
    "ModelCard",
    "NoWeightsError",
    "Role",
    "TooSlowError",
    "check_model_folder",
    "check_safetensors",
    "digest_folder",
    "find_card",
    "list_cards",
    "model_files",
    "model_folder",
    "open_clip_weights",
    "raise_too_slow",
    "read_card",
    "read_json",
    "time_limit",
    "where_searched",
]
