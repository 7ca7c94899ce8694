"""The files of a model's folder: regular ones alone, and none that holds a program.

Weights are safetensors. A pickle runs what it says when it is loaded, so none may lie where a library could look for
one, also not beside safetensors: which file a library takes is its own matter. What a publisher ships beside them, and
nothing here opens, is named by the card (``unused``). Python and native code have no place in a folder of weights.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
from pathlib import Path
from typing import Any

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ModelCard
from ltgc_local.printable import printable
from ltgc_local.regular_files import MIB, check_regular, parse_json, read_text

#: Endings of pickles, and of other formats whose loading can run code, under every name that a library looks for.
PICKLES = {
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz", ".ot", ".pt2", ".ptl",
    ".torchscript", ".nemo",
}  # fmt: skip
OTHERS = {".h5", ".hdf5", ".keras", ".pb", ".mar"}
#: Endings of programs, which no card can except.
PROGRAMS = re.compile(
    r"\.(py[a-z]?|so(\.\d+)*|dll|dylib|exe|com|node|whl|egg|jar|class|wasm|o|a|elf|cubin|fatbin|ptx|sh|bash|bat|cmd|ps1)",
    re.IGNORECASE,
)
PROGRAM_FOLDERS = {"__pycache__", "custom_generate"}
#: A PEFT adapter beside a model is put into it by transformers, without a word, and may name another base model.
ADAPTER = "adapter_config.json"

MAX_CONFIG_BYTES = 8 * MIB
MAX_TOKENIZER_BYTES = 64 * MIB
MAX_FILES = 10_000  # of a folder: the largest models have a few hundred
#: Values in a JSON file, by its commas and brackets: a list takes 20 times as much memory as its two bytes. The largest
#: tokenizers (Gemma's, with 262,000 words) have about 3,000,000.
MAX_VALUES = 6_000_000


def read_json(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: it cannot be read, is no object, or is larger than any model's.
    """
    try:
        text = read_text(path, max_bytes)
        value = parse_limited(text)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error.strerror}); copy it again") from None
    except ValueError as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); copy it again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object; copy it again")
    return value


def parse_limited(text: str) -> Any:
    """Parse JSON of no more values than any model's files have.

    Raises:
        ValueError: it has more, or is not JSON.
    """
    if sum(text.count(sign) for sign in "[{,") > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values")
    return parse_json(text)


def model_files(folder: Path) -> list[Path]:
    """Return the folder's files, sorted by relative name; hidden files and folders are skipped.

    Raises:
        ModelError: a name is not UTF-8, the folder cannot be read, or is nested without end.
    """
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if len(Path(parent).relative_to(folder).parts) > 8:
            raise ModelError(f"{folder}: nested too deeply at {parent}; a link there may lead back to itself")
        files += [Path(parent, name) for name in names if not name.startswith(".")]
        if len(files) > MAX_FILES:
            raise ModelError(f"{folder}: more than {MAX_FILES} files: no folder of a model; correct 'path' in its card")
    for file in files:
        if printable(file.name) != file.name:
            raise ModelError(f"{file.parent}: a file's name is '{printable(file.name)}'; rename or remove it")
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())


def check_kind(file: Path) -> None:
    """Refuse what is no regular file, before anything opens it.

    Raises:
        ModelError: it is a FIFO, a device, a link to nowhere …
    """
    try:
        check_regular(file)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}; remove it, or copy it again") from error


def problems_of_names(card: ModelCard, folder: Path, files: list[Path]) -> list[str]:
    """Return which files hold programs, by their names, each with what to do."""
    return list(filter(None, (_problem_of_name(card, folder, file) for file in files)))


def _problem_of_name(card: ModelCard, folder: Path, file: Path) -> str:
    name = file.relative_to(folder)
    remove = f"type: rm {shlex.quote(str(file))}"
    is_in_program = any(part in PROGRAM_FOLDERS for part in name.parts[:-1])
    if PROGRAMS.fullmatch(_ending(file)) or is_in_program:
        return f"{file}: a program in a model's folder, which a library could run; {remove}"
    if file.name == ADAPTER:
        return f"{file}: an adapter, which would be put into the model, or name another one to load; {remove}"
    suffix = file.suffix.lower()
    if suffix not in PICKLES | OTHERS or _is_raw(file) or is_unused(card, name.as_posix()):
        return ""
    kind = "a pickle" if suffix in PICKLES else f"a {suffix} file"
    found = f"{file}: weights as {kind}, which can run any code when loaded; never loaded here. "
    if not any(file.parent.glob("*.safetensors")):
        return f"{found}Get or make {file.parent / 'model.safetensors'} instead"
    pattern = f"write 'unused: [\"{name.as_posix()}\"]' in {card.file}"
    return f"{found}Remove it ({remove}), or, where the publisher ships it, {pattern}"


def _ending(file: Path) -> str:
    """Return the ending of a name; of a native library with its version."""
    found = re.search(r"\.so(\.\d+)*$", file.name, re.IGNORECASE)
    return found[0] if found else file.suffix


def is_unused(card: ModelCard, name: str) -> bool:
    """Return whether the card says of a file, by its name relative to the folder, that it is never opened."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in card.unused)


def _is_raw(file: Path) -> bool:
    """Return whether a .bin is OpenVINO's, which are numbers alone, of a name that no other library looks for."""
    return file.suffix.lower() == ".bin" and file.name.startswith("openvino")


def _refuse_folder(error: OSError) -> None:
    raise ModelError(f"{error.filename}: cannot be read: {error.strerror}") from error
