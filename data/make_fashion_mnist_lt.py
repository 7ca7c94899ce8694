"""Make data/fashion_mnist_lt/ again, byte for byte, from Fashion-MNIST's four official files.

    python data/make_fashion_mnist_lt.py --source DIR          # write train/val/test.parquet and SHA256SUMS
    python data/make_fashion_mnist_lt.py --source DIR --check  # compare with what is shipped, write nothing

DIR holds the official ``*-ubyte.gz`` files (Debian: ``apt-get install dataset-fashion-mnist`` puts them in
/usr/share/datasets/fashion-mnist); their sha256 is checked first. Every choice (class order, which images) comes from
sha256 of a seed and an index, so it depends on no library's random generator. The Parquet bytes also depend on the
versions of Pillow (PNG) and pyarrow (Parquet) in ``WRITTEN_WITH``; with others, ``--check`` compares pixels.

The splits: train n_i = round(1000 * 0.01^(i/9)) over a seeded class order; val 100 a class from the rest of the
official train set; test = the 10,000 official test images; the pool = every other official train image (never shipped,
what the miniature models learn from).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SEED = 2024  # the year of both papers; fixed before any model was trained
CLASS_NAMES = (
    "T-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
LARGEST, IMBALANCE, VAL_PER_CLASS = 1000, 0.01, 100
OFFICIAL_SHA256 = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
WRITTEN_WITH = {"pillow": PIL.__version__, "pyarrow": pa.__version__}
HERE = Path(__file__).resolve().parent / "fashion_mnist_lt"


@dataclass(frozen=True)
class Split:
    """Images (N, 28, 28) uint8, labels (N,) and each image's index in its official file."""

    images: np.ndarray
    labels: np.ndarray
    source_index: np.ndarray

    def take(self, rows: np.ndarray) -> Split:
        return Split(self.images[rows], self.labels[rows], self.source_index[rows])


def read_official(source: Path, part: str) -> Split:
    """Read ``train`` or ``t10k`` and check the files' sha256.

    Raises:
        SystemExit: a file is missing or is not the official one.
    """
    arrays = []
    for kind, skip in (("images-idx3", 16), ("labels-idx1", 8)):
        name = f"{part}-{kind}-ubyte.gz"
        path = source / name
        if not path.is_file():
            raise SystemExit(f"{path}: not there; --source must name the folder of Fashion-MNIST's official .gz files")
        packed = path.read_bytes()
        found = hashlib.sha256(packed).hexdigest()
        if found != OFFICIAL_SHA256[name]:
            raise SystemExit(f"{path}: sha256 {found}, expected {OFFICIAL_SHA256[name]}: not the official file")
        arrays.append(np.frombuffer(gzip.decompress(packed), np.uint8, offset=skip))
    labels = arrays[1].astype(np.int64)
    return Split(arrays[0].reshape(-1, 28, 28), labels, np.arange(len(labels)))


def class_order() -> list[int]:
    """Return the official class ids from the largest class to the smallest."""
    return sorted(range(10), key=lambda c: hashlib.sha256(f"{SEED}:class:{c}".encode()).hexdigest())


def class_counts() -> dict[int, int]:
    """Return the number of training images of each official class id: n_i = round(1000 * 0.01^(i/9))."""
    return {c: round(LARGEST * IMBALANCE ** (i / 9)) for i, c in enumerate(class_order())}


def split_train(official: Split) -> dict[str, Split]:
    """Split the official train images into ``train`` (long tail), ``val`` (balanced) and ``pool`` (the rest)."""
    keys = [hashlib.sha256(f"{SEED}:image:{i}".encode()).digest() for i in range(len(official.labels))]
    counts = class_counts()
    rows: dict[str, list[int]] = {"train": [], "val": [], "pool": []}
    for class_id in range(10):
        shuffled = sorted(np.flatnonzero(official.labels == class_id), key=lambda i: keys[i])
        n = counts[class_id]
        rows["train"] += shuffled[:n]
        rows["val"] += shuffled[n : n + VAL_PER_CLASS]
        rows["pool"] += shuffled[n + VAL_PER_CLASS :]
    return {name: official.take(np.array(sorted(r))) for name, r in rows.items()}


def write_parquet(split: Split, path: Path) -> None:
    """Write PNG bytes, label and source index so that ``datasets.load_dataset("parquet", …)`` decodes images."""
    pictures = []
    for pixels, index in zip(split.images, split.source_index, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
        pictures.append({"bytes": buffer.getvalue(), "path": f"{index:05d}.png"})
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(CLASS_NAMES), "_type": "ClassLabel"},
        "source_index": {"dtype": "int32", "_type": "Value"},
    }
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
            ("source_index", pa.int32()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    table = pa.table(
        [
            pa.array(pictures, schema.field("image").type),
            pa.array(split.labels),
            pa.array(split.source_index, pa.int32()),
        ],
        schema=schema,
    )
    pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)


def pixels_sha256(path: Path) -> str:
    """Return sha256 over labels and decoded pixels: the same whatever library versions wrote the file."""
    digest = hashlib.sha256()
    for row in pq.read_table(path).to_pylist():
        digest.update(bytes([row["label"]]))
        digest.update(np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).tobytes())
    return digest.hexdigest()


def make(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    splits = split_train(read_official(source, "train"))
    splits["test"] = read_official(source, "t10k")
    sums = {"written_with": WRITTEN_WITH, "files": {}}
    for name in ("train", "val", "test"):
        path = folder / f"{name}.parquet"
        write_parquet(splits[name], path)
        sums["files"][path.name] = {
            "rows": len(splits[name].labels),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "pixels_sha256": pixels_sha256(path),
        }
    (folder / "sha256.json").write_text(json.dumps(sums, indent=1) + "\n")


def check(source: Path) -> int:
    """Make the data in a temporary folder and compare with what is shipped; return the exit code."""
    shipped = json.loads((HERE / "sha256.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        make(source, Path(folder))
        made = json.loads((Path(folder) / "sha256.json").read_text())
    same_versions = made["written_with"] == shipped["written_with"]
    key = "sha256" if same_versions else "pixels_sha256"
    status = 0
    for name, want in shipped["files"].items():
        ok = made["files"][name][key] == want[key]
        status |= not ok
        print(f"{name}: {want['rows']} rows, {'same' if ok else 'DIFFERENT'} {key}")
    if not same_versions:
        print(f"(bytes were not compared: made with {made['written_with']}, shipped with {shipped['written_with']})")
    return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--check", action="store_true", help="compare with what is shipped, write nothing")
    arguments = parser.parse_args()
    sys.exit(check(arguments.source) if arguments.check else make(arguments.source, HERE))
