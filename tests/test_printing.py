"""Output: no control character reaches a terminal or a page, and output that cannot be written is reported."""

from __future__ import annotations

import csv
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ltgc_local.cli import main
from ltgc_local.comparison.aggregate import Line
from ltgc_local.comparison.compare import Benchmark, Comparison
from ltgc_local.comparison.formats import FORMATS, write_comparison
from ltgc_local.comparison.table import Cell, Table
from ltgc_local.printable import printable
from ltgc_local.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
ESCAPES = "\x1b[31m\x07\x9b2J\r\u202e\x00\ud800"


@pytest.fixture
def recipe_file(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> Path:
    make_recipe()
    return tmp_path / "plain.yaml"


def shell(words: str, recipe: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line under a shell, which closes and redirects its streams."""
    command = (
        f"exec {shlex.quote(sys.executable)} -m ltgc_local.cli {words.replace('RECIPE', shlex.quote(str(recipe)))}"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("words", ["plan RECIPE", "plan RECIPE --json", "--help", "validate --help", "--version"])
def test_a_full_disk_under_the_output_is_one_line_and_exit_code_5(recipe_file: Path, words: str) -> None:
    done = shell(f"{words} > /dev/full", recipe_file)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "standard output cannot be written: No space left on device\n"


def test_a_closed_output_is_one_line_and_exit_code_5(recipe_file: Path) -> None:
    done = shell("validate RECIPE >&-", recipe_file)
    assert (done.returncode, done.stderr) == (5, "standard output is closed, and the result cannot be written\n")


@pytest.mark.parametrize(("redirection", "code"), [("2>&-", 0), ("2> /dev/full", 0), ("<&- 2>&-", 0), (">&- 2>&-", 5)])
def test_a_closed_error_stream_disturbs_nothing(recipe_file: Path, redirection: str, code: int) -> None:
    done = shell(f"validate RECIPE {redirection}", recipe_file)
    assert done.returncode == code
    assert done.stdout == (f"{recipe_file}: fine (ltgc on fashion_mnist_lt, seed 0)\n" if code == 0 else "")


def test_an_error_that_cannot_be_told_keeps_its_exit_code(recipe_file: Path) -> None:
    for redirection in ("2>&-", "2> /dev/full", ">&- 2>&-"):
        assert shell(f"validate RECIPE --set x=1 {redirection}", recipe_file).returncode == 2


def test_a_file_that_is_opened_never_becomes_a_closed_stream(recipe_file: Path) -> None:
    code = "import os, sys; from ltgc_local.cli import console; console.open_missing_streams(); "
    code += "print(os.dup(0), file=sys.stderr)"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} <&- >&- 2>/dev/null; echo $?"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "0\n"


def test_a_folder_that_is_gone_is_said(recipe_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    words = f"validate {shlex.quote(str(recipe_file))}"
    command = f"rmdir {shlex.quote(str(folder))}; exec {shlex.quote(sys.executable)} -m ltgc_local.cli {words}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "the current folder cannot be read: No such file or directory; type: cd, and the command again\n"
    )


def test_names_of_others_are_shown_and_not_obeyed(recipe_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[31mb"
    for split in ("train", "val", "test"):
        (folder / split / "c\x07at").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / split / "c\x07at/a.png")
    sets = ["--set", "data.benchmark=image_folder", "--set", f'data.root="{tmp_path}/a\\e[31mb"']
    fine = CliRunner().invoke(main, ["validate", str(recipe_file), "--images", *sets])
    assert fine.exit_code == 0
    assert r"a\x1b[31mb: 3 images, all of them decode" in fine.output
    (folder / "test/c\x07at/a.png").write_bytes(b"")
    refused = CliRunner().invoke(main, ["validate", str(recipe_file), "--images", *sets])
    assert refused.exit_code == 4
    assert r"a\x1b[31mb/test/c\x07at/a.png: the image does not decode" in refused.output
    planned = CliRunner().invoke(main, ["plan", str(recipe_file), *sets])
    assert r"c\x07at" in planned.output
    for result in (fine, refused, planned):
        assert not {"\x1b", "\x07"} & set(result.output)


def test_what_is_done_with_alpha_and_16_bits_is_said(recipe_file: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / "d" / split / "cat").mkdir(parents=True)
        Image.new("RGBA", (4, 4)).save(tmp_path / "d" / split / "cat/a.png")
    Image.new("I;16", (4, 4)).save(tmp_path / "d/train/cat/b.png")
    sets = ["--set", "data.benchmark=image_folder", "--set", f"data.root={tmp_path}/d"]
    told = CliRunner().invoke(main, ["validate", str(recipe_file), "--images", *sets]).output
    assert told.endswith(
        f"{tmp_path}/d: 4 images, all of them decode\n"
        "3 have alpha: they are composited onto white (data.alpha_background)\n1 have 16 bits: they are scaled to 8\n"
    )


@given(st.text())
def test_printable_text_has_no_control_characters_and_can_be_encoded(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert all(letter in "\t\n" or letter.isprintable() or ord(letter) > 0x9F for letter in shown)
    assert printable(shown) == shown


NAMES = (
    "=HYPERLINK(\"http://192.0.2.1\")", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "a,\"b\"\n=1",
    "<script>alert(1)</script>", "![x](http://192.0.2.1/x.png)", "a|b\\|c", "`x`", r"\input{/etc/passwd}", ESCAPES,
)  # fmt: skip


def hostile(name: str) -> Comparison:
    """Return a comparison whose every text is ``name``."""
    table = Table("change", name, name, [name, "all"], [[name, Cell(-1.5, (-2.0, -1.0), 0.5, is_difference=True)]])
    benchmark = Benchmark(
        name, name, [], [Line(name, "", name, "", (0, 1), {"all": Cell(-1.5, (-2.0, -1.0), 0.5)})], [table]
    )
    return Comparison([benchmark], (), 0.95, (Path(name.replace("\0", "")),))


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_harmless_in_every_format(name: str) -> None:
    comparison = hostile(name)
    texts = {kind: write_comparison(comparison, kind) for kind in FORMATS}
    for text in texts.values():
        text.encode()
        assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e", "\x00"} & set(text)
    (row,) = [row for row in csv.reader(io.StringIO(texts["csv"])) if row[0] == "ours"]
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row)
    assert row[1] == (f"'{printable(name)}" if name[0] in "=+-@\t\r" else printable(name))
    assert row[8:12] == ["-1.5", "-2.0", "-1.0", "0.5"]  # numbers are numbers
    assert "<script" not in texts["html"] and "Content-Security-Policy" in texts["html"]
    cells = [line for line in texts["markdown"].splitlines() if line.startswith("| ")]
    assert not any("<" in line or "![" in line or "`" in line.replace("\\`", "") for line in cells)
    assert r"\input{" not in texts["latex"]
