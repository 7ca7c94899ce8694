"""Cards of strangers: each is read or refused soon, in little memory, with the file and where there is one the line."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import find_card, list_cards, read_card
from tests.model_store.test_model_cards import FRONT, refusal, write_card

SECONDS = 2
TOO_MUCH = "CARD: too many values, or nested too deeply (a model card has at most 2000 values, 20 levels deep"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MORE = {
    "a key that is a list": ("[a, b]: 1\n", "CARD:9: a key must be a word"),
    "a key that is a map": ("{a: b}: 1\n", "CARD:9: a key must be a word"),
    "a key that is a list, at length": ("? [a]\n: 1\n", "CARD:9: a key must be a word"),
    "an alias bomb": (BOMB, TOO_MUCH),
    "an alias of itself": ("a: &a {b: *a}\n", TOO_MUCH),
    "20,000 brackets": (
        "license_note: " + "[" * 20_000 + "\n",
        "CARD:1: 20000 brackets in front matter; a model card has at",
    ),
    "deep blocks": ("".join(" " * depth + "a:\n" for depth in range(200)), TOO_MUCH),
    "20,000 levels of lists": ("license_note:\n  " + "- " * 20_000 + "\n", TOO_MUCH),
    "many keys": ("".join(f"k{number}: 1\n" for number in range(4000)), TOO_MUCH),
    "a long value": ("license_note: " + "x" * 60_000 + "\n", "front matter; a model card has at most 50000"),
    "a zero byte": ('license_note: "a\\0b"\n', r"CARD:9: a character that cannot be shown in 'a\x00b'; remove it"),
    "half a character": (
        'license_note: "\\ud800"\n',
        "CARD:9: license_note: a character that YAML does not allow: U+D800",
    ),
    "no character": (
        'license_note: "\\U00110000"\n',
        "CARD: a character written as \\U and 8 digits that does",
    ),
    "a control character": ("license_note: \x01\n", "CARD:9: a character that YAML does not allow: U+0001"),
    "almost a number": ("image_size_px: 5_\n", "CARD:9: image_size_px: expected a valid integer; found '5_'"),
    "40,000 digits": (
        "image_size_px: " + "9" * 40_000 + "\n",
        "CARD:9: image_size_px: expected a valid integer; found inf",
    ),
    "infinity": ("parameters_millions: .inf\n", "CARD:9: parameters_millions: expected a finite number; found inf"),
    "a merge key": ("<<: {role: clip}\n", "CARD:9: merge keys ('<<') are not used in model cards"),
    "unused files outside": ("unused: ['a/../b']\n", "CARD:9: unused.0: String should match pattern"),
    "hidden unused files": ("unused: ['.*']\n", "CARD:9: unused.0: String should match pattern"),
    "digests of files outside": (f"sha256: {{'../x': {'a' * 64}}}\n", "CARD:9: sha256.../x.[key]: String should match"),
}


@pytest.mark.parametrize("kind", MORE)
def test_odd_front_matter_is_refused_soon_with_its_line(kind: str, tmp_path: Path) -> None:
    more, words = MORE[kind]
    path = write_card(tmp_path, FRONT + more)
    start = time.monotonic()
    assert refusal(path).startswith(words) or words in refusal(path)
    assert time.monotonic() - start < 2 * SECONDS  # read twice


@pytest.mark.parametrize("path", ["a\\0b", "a\\x1b", "\\ud800", "x" * 5_000])
def test_a_path_is_one_that_a_system_can_have(path: str, tmp_path: Path) -> None:
    told = refusal(write_card(tmp_path, FRONT.replace("path: weights/tiny-clip", f'path: "{path}"')))
    assert told.startswith("CARD:5: ") and len(told) < 500


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def large(path: Path) -> None:
    path.write_text(f"---\n{FRONT}---\n{'x' * 1_000_000}")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (fifo, "not a regular file but a FIFO"),
        (device, "not a regular file but a device"),
        (folder, "a folder, where a file is expected"),
        (large, "bytes, but at most 1000000 are read"),
    ],
)
def test_a_card_that_is_no_file_of_a_cards_size_is_refused_at_once(
    make: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    make(tmp_path / "tiny-clip.md")
    start = time.monotonic()
    for read in (
        lambda: read_card(tmp_path / "tiny-clip.md"),
        lambda: find_card(tmp_path, "tiny-clip", "clip"),
        lambda: list_cards(tmp_path),
    ):
        with pytest.raises(ModelError, match=rf"tiny-clip\.md: cannot be read: .*{words}"):
            read()
    assert time.monotonic() - start < SECONDS


def test_no_odd_card_takes_much_memory(tmp_path: Path) -> None:
    for number, (more, _) in enumerate(MORE.values()):
        write_card(tmp_path, FRONT.replace("tiny-clip", f"c{number}") + more, f"c{number}")
    program = f"""
import resource, sys
from pathlib import Path
from ltgc_local.errors import ModelError
from ltgc_local.model_store.cards import read_card
resource.setrlimit(resource.RLIMIT_AS, (500 * 2**20, -1))
for path in Path({str(tmp_path)!r}).glob("*.md"):
    try:
        read_card(path)
        sys.exit(f"{{path}} was read")
    except ModelError:
        pass
"""
    soft = resource.getrlimit(resource.RLIMIT_AS)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr, resource.getrlimit(resource.RLIMIT_AS)) == (0, "", soft)
