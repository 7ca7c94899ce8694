"""The example under recipes/slurm/: files of ImageNet-LT's chain for the profile that is beside them.

python -m tests.slurm.example    render them again, after the renderer was changed
"""

from __future__ import annotations

from pathlib import Path

import ltgc_local.methods.registry  # noqa: F401 (the recipe may be of any method)
from ltgc_local.pipeline.plan import build_plan
from ltgc_local.recipe import load_recipe
from ltgc_local.slurm.chain import build_chain
from ltgc_local.slurm.read_profile import read_profile
from ltgc_local.slurm.render import Site, render_chain

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "slurm"
#: A job of each kind: the first, an array of GPU jobs, an array of CPU jobs, a training on two nodes, a single CPU job.
SHOWN = (
    *("00-prepare.sbatch", "03-draw.sbatch", "12-generated.sbatch", "17-train-ltgc.sbatch", "25-report.sbatch"),
    "submit.sh",
)


def render_example() -> dict[str, str]:
    """Return name -> text of the files that are shown."""
    recipe = load_recipe(FOLDER.parent / "imagenet_lt.yaml", check_files=False)
    profile = read_profile(FOLDER / "site.yml")
    jobs = build_chain(build_plan(recipe), profile, on_cpu=False, training_processes=8)
    texts = render_chain(jobs, Site(profile, Path("/scratch/you/runs/imagenet_lt"), recipe.name))
    return {name: texts[name] for name in SHOWN}


if __name__ == "__main__":
    for name, text in render_example().items():
        (FOLDER / "imagenet_lt" / name).write_text(text, encoding="utf-8")
