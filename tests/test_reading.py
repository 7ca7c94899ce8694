"""Files are read where reading is safe: bounded, regular files alone, JSON of any depth, images of known formats."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.test_architecture import modules

#: Functions and methods that open or parse what somebody else may have written.
FUNCTIONS = {"open", "load_file", "safe_open"}
METHODS = {"read_text", "read_bytes", "open"}
OF_MODULES = {
    *("json.load", "json.loads", "np.load", "np.memmap", "np.fromfile", "np.loadtxt", "pq.read_table"),
    *("pq.ParquetFile", "yaml.safe_load", "yaml.load", "torch.load", "pickle.load", "pickle.loads", "csv.reader"),
}
#: Where they may stand, and why there.
ALLOWED = {
    ("regular_files.py", "os.open"): "the one place that opens",
    ("regular_files.py", "json.loads"): "the one place that parses",
    ("image_decoding.py", "Image.open"): "the one place that decodes",
    ("methods/ltgc/replies/structured.py", "json.loads"): "one quoted text of a model's reply",
    ("cli/console.py", "open"): "the null device",
    ("cli/console.py", "os.open"): "the null device",
    ("model_store/limits.py", "Path('/proc/self/statm').read_text"): "what the system says of this process",
    ("model_store/safetensors_files.py", "safe_open"): "after open_regular, and of its header alone",
    ("runs/lock.py", "path.open"): "writes a claim",
    ("runs/leases.py", "path.open"): "writes a lease",
    ("pipeline/executors/fork_server.py", "json.loads"): "what the launcher that started it asks for",
    ("pipeline/executors/fork_server.py", "os.open"): "the null device",
    ("runs/arrays.py", "pq.ParquetFile"): "after check_regular: every Parquet file of a run",
    ("runs/files.py", "path.open"): "writes lines",
    ("runs/chunk_plan.py", "path.open"): "writes a plan",
    ("runs/arrays.py", "safe_open"): "after check_regular: every safetensors file of a run",
    ("runs/arrays.py", "json.loads"): "its metadata, errors and all",
    ("training/images.py", "temporary.open"): "writes the file",
    ("training/images.py", "np.load"): "after its sha256 was compared",
    ("backends/timm_backbone.py", "load_file"): "after the folder's check",
    ("datasets/cifar_lt.py", "np.memmap"): "after check_regular",
    ("datasets/parquet.py", "pq.ParquetFile"): "after check_regular",
}


def calls(source: str) -> Iterator[str]:
    """Yield the reading calls in a source: a function's name, or the last word before the dot and the method's."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            yield node.func.id
        elif isinstance(node.func, ast.Attribute):
            name = f"{ast.unparse(node.func.value).split('.')[-1]}.{node.func.attr}"
            if node.func.attr in METHODS or name in OF_MODULES:
                yield name


@pytest.mark.parametrize("path", modules())
def test_nothing_is_read_but_where_it_is_safe(path: str) -> None:
    assert {name for name in calls(modules()[path]) if (path, name) not in ALLOWED} == set()


def test_every_exception_is_still_needed() -> None:
    sources = modules()
    for path, name in ALLOWED:
        assert name in calls(sources[path]), f"{path}: {name} is not there any more"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("path.read_text()", ["path.read_text"]),
        ("with (root / 'x').open() as f: pass", ["root / 'x'.open"]),
        ("def f():\n    return json.loads(a)", ["json.loads"]),
        ("torch.load(x)", ["torch.load"]),
        ("self.path.read_bytes()", ["path.read_bytes"]),
        ("open(x)", ["open"]),
        ("read_text(path, 3)", []),
        ("path.write_text(x)", []),
    ],
)
def test_a_reading_call_is_seen(source: str, expected: list[str]) -> None:
    assert list(calls(source)) == expected
