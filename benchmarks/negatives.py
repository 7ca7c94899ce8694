"""Two cases in which generated images cannot help, to see that the report says so.

    python -m benchmarks.negatives runs/quickstart --out runs/negatives

``shuffled``: every generated image gets the class of another tail class, the next one around. ``repeated``: all images
of a class are its first one. Each is a run of its own, in which all steps that read the generated images are done
again; what the report then says is printed, and its figures are stored with it as always.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click

from ltgc_local.pipeline.plan import build_plan, with_dependents
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import GeneratedImage, Images
from ltgc_local.runs.provenance import read_run_recipe

Alter = Callable[[Sequence[GeneratedImage]], list[GeneratedImage]]


def shuffled(images: Sequence[GeneratedImage]) -> list[GeneratedImage]:
    """Give each image to the next of the classes that have any."""
    names = dict(sorted({image.class_id: image.class_name for image in images}.items()))
    others = dict(zip(names, [*list(names)[1:], *list(names)[:1]], strict=True))
    found = [replace(each, class_id=others[each.class_id], class_name=names[others[each.class_id]]) for each in images]
    return sorted(found, key=lambda image: image.key)


def repeated(images: Sequence[GeneratedImage]) -> list[GeneratedImage]:
    """Replace the pixels of every image by those of the first image of its class."""
    first: dict[int, bytes] = {}
    return [replace(each, image=first.setdefault(each.class_id, each.image)) for each in images]


CASES: dict[str, Alter] = {"shuffled": shuffled, "repeated": repeated}


def spoil(source: Path, out: Path, alter: Alter) -> None:
    """Copy a run with other generated images, and without the steps that read them."""
    recipe = read_run_recipe(source)
    again = with_dependents(build_plan(recipe), ["generated"])
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("decoded", "superseded", "logs"))
    for step in again:
        shutil.rmtree(out / step, ignore_errors=True)
    before, after = RunDirectory(source), RunDirectory(out)
    images = alter(before.images("generated"))
    manifest = before.manifest("generated")
    assert manifest is not None
    facts = {"items": len(images), "seconds": 0.0, "peak_mib": 0}
    after.write_chunk("generated", 0, [Images("images", images)], facts)
    after.write_manifest("generated", manifest.fingerprint, 1, 0.0)


@click.command(help=__doc__)
@click.argument("source", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the runs to make.")
def main(source: Path, out: Path) -> None:
    for name, alter in CASES.items():
        spoil(source, out / name, alter)
        subprocess.run([sys.executable, "-m", "ltgc_local.cli", "run", str(out / name)], check=True)
        verdict = json.loads((out / name / "report" / "summary.json").read_text())["verdict"]
        click.echo(f"{name}: {verdict['outcome']}: {verdict['headline']}")


if __name__ == "__main__":
    main()
