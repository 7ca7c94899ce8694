"""Lists and tables of any content open, or are refused with their name, in time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltgc_local.datasets import open_corpus
from ltgc_local.errors import DataError
from ltgc_local.recipe.inputs import Data
from tests.promptly import BUSY_S, within

GOOD = {
    "list_files": {"train.txt": "a/1.jpg 0\nb/2.jpg 1\n", "val.txt": "a/3.jpg 0\n", "test.txt": "b/4.jpg 1\n"},
    "csv": {
        "train.csv": "image,label\na/1.jpg,a\nb/2.jpg,b\n",
        "val.csv": "image,label\na/3.jpg,a\n",
        "test.csv": "image,label\nb/4.jpg,b\n",
    },
    "anno_lists": {"anno/x_train.txt": "0/1.jpg 0\n1/2.jpg 1\n", "anno/x_test.txt": "0/3.jpg 0\n1/4.jpg 1\n"},
}
NAMES = {"list_files": "class_names.txt", "csv": None, "anno_lists": "anno/class_names.txt"}
#: What separates fields and lines, climbs out of folders, ends texts or stands for no character.
PIECES = [
    "\n",
    " ",
    ",",
    '"',
    "/",
    "..",
    "\\",
    "0",
    "-1",
    "9" * 30,
    "\0",
    "\t",
    "\ufeff",
    "é",
    "\u2028",
    "a" * 400,
    "#",
]
TEXT = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12).map("".join)


def write(root: Path, benchmark: str) -> Path:
    for name, text in GOOD[benchmark].items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    if (names := NAMES[benchmark]) is not None:
        (root / names).write_text("one\ntwo\n")
    return root


def opens_or_is_refused(root: Path, benchmark: str) -> None:
    with within(BUSY_S):
        try:
            corpus = open_corpus(Data(benchmark=benchmark, root=root))  # type: ignore[arg-type]
            corpus.digest()
            corpus.check_images_are_there()
        except DataError as problem:
            assert str(root) in str(problem) or benchmark in str(problem)


@pytest.mark.parametrize("benchmark", GOOD)
def test_the_lists_that_are_changed_below_open(tmp_path: Path, benchmark: str) -> None:
    write(tmp_path, benchmark)
    assert len(open_corpus(Data(benchmark=benchmark, root=tmp_path)).class_names) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("benchmark", GOOD)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_lists_open_or_are_refused(tmp_path: Path, benchmark: str, data: st.DataObject) -> None:
    write(tmp_path, benchmark)
    names = [*GOOD[benchmark], *filter(None, [NAMES[benchmark]])]
    path = tmp_path / data.draw(st.sampled_from(names))
    good = path.read_text()
    at = data.draw(st.integers(0, len(good)))
    changed = good[:at] + data.draw(TEXT) + good[at + data.draw(st.integers(0, 3)) :]
    path.write_bytes(changed.encode("utf-8", "surrogatepass"))
    opens_or_is_refused(tmp_path, benchmark)


@pytest.mark.parametrize("benchmark", GOOD)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_lists_of_any_bytes_open_or_are_refused(tmp_path: Path, benchmark: str, content: bytes) -> None:
    write(tmp_path, benchmark)
    for name in GOOD[benchmark]:
        (tmp_path / name).write_bytes(content)
        opens_or_is_refused(tmp_path, benchmark)
