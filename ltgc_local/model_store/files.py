"""The files in a model's folder: only regular ones, and none that holds a program.

Weights are safetensors. Loading a pickle runs the code in it, so none may be where a library could look for one, not
even next to safetensors, because the library chooses which to load. The card names files that the publisher ships and
nothing here opens (``unused``). Python and native code have no place in a folder of weights.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shlex
from pathlib import Path
from typing import Any

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import ModelCard
from ltgc_local.printable import printable
from ltgc_local.regular_files import MIB, check_regular, digest_file, parse_json, read_text

#: Endings of pickles and of other formats whose loading can run code, under every name that libraries look for.
PICKLES = {
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz", ".ot", ".pt2", ".ptl",
    ".torchscript", ".nemo",
}  # fmt: skip
OTHERS = {".h5", ".hdf5", ".keras", ".pb", ".mar"}
#: Endings of programs, for which no card can make an exception.
PROGRAMS = re.compile(
    r"\.(py[a-z]?|so(\.\d+)*|dll|dylib|exe|com|node|whl|egg|jar|class|wasm|o|a|elf|cubin|fatbin|ptx|sh|bash|bat|cmd|ps1)",
    re.IGNORECASE,
)
PROGRAM_FOLDERS = {"__pycache__", "custom_generate"}
#: transformers silently applies a PEFT adapter that is next to a model, and it may name another base model.
ADAPTER = "adapter_config.json"

MAX_CONFIG_BYTES = 8 * MIB
MAX_TOKENIZER_BYTES = 64 * MIB
MAX_FILES = 10_000  # of a folder: the largest models have a few hundred
#: Values in a JSON file, counted by commas and brackets: a list takes 20 times the memory of its two bytes. The largest
#: tokenizers (Gemma's, with 262,000 words) have about 3,000,000.
MAX_VALUES = 6_000_000


def read_json(path: Path, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Read a JSON object no larger than any model's; a ModelError says why it cannot be read."""
    try:
        value = parse_limited(read_text(path, max_bytes))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error.strerror}); copy it again") from None
    except ValueError as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); copy it again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object; copy it again")
    return value


def parse_limited(text: str) -> Any:
    """Parse JSON with no more values than any model's files have; otherwise raise a ValueError."""
    if sum(text.count(sign) for sign in "[{,") > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values")
    return parse_json(text)


def model_files(folder: Path) -> list[Path]:
    """Return the folder's files, sorted by relative name, without hidden files and folders.

    Raises:
        ModelError: a name is not UTF-8, or the folder cannot be read, is nested without end or has too many files.
    """
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if len(Path(parent).relative_to(folder).parts) > 8:
            raise ModelError(f"{folder}: nested too deeply at {parent}; a link there may lead back to itself")
        files += [Path(parent, name) for name in names if not name.startswith(".")]
        if len(files) > MAX_FILES:
            raise ModelError(f"{folder}: more than {MAX_FILES} files, not a model's folder; correct 'path' in its card")
    for file in files:
        if printable(file.name) != file.name:
            raise ModelError(f"{file.parent}: a file's name is '{printable(file.name)}'; rename or remove it")
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())


def digest_folder(folder: Path) -> str:
    """Return one sha256 over the sorted relative names and the contents of a folder's files."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    digest = hashlib.sha256()
    for file in model_files(folder):
        check_kind(file)
        try:
            content = digest_file(file)
        except OSError as error:
            raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
        digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def check_kind(file: Path) -> None:
    """Refuse a FIFO, a device, a broken link and the like, before anything opens it."""
    try:
        check_regular(file)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}; remove it, or copy it again") from error


def problems_of_names(card: ModelCard, folder: Path, files: list[Path]) -> list[str]:
    """Return which files hold programs, judged by their names, and what to do about each."""
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
    is_raw = suffix == ".bin" and file.name.startswith("openvino")  # only numbers, and no other library looks for them
    if suffix not in PICKLES | OTHERS or is_raw or is_unused(card, name.as_posix()):
        return ""
    kind = "a pickle" if suffix in PICKLES else f"a {suffix} file"
    found = f"{file}: weights as {kind}, which can run any code when loaded; never loaded here. "
    if not any(file.parent.glob("*.safetensors")):
        return f"{found}Get or make {file.parent / 'model.safetensors'} instead"
    pattern = f"write 'unused: [\"{name.as_posix()}\"]' in {card.file}"
    return f"{found}Remove it ({remove}), or, where the publisher ships it, {pattern}"


def _ending(file: Path) -> str:
    """Return the ending of a name; for a native library, with its version."""
    found = re.search(r"\.so(\.\d+)*$", file.name, re.IGNORECASE)
    return found[0] if found else file.suffix


def is_unused(card: ModelCard, name: str) -> bool:
    """Return whether the card says that a file (name relative to the folder) is never opened."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in card.unused)


def _refuse_folder(error: OSError) -> None:
    raise ModelError(f"{error.filename}: cannot be read: {error.strerror}") from error
