"""Merge: the list of what trains the classifier, original and generated, and where each generated image comes from.

Images stay where they are; the list names them. An accept test may have left fewer than wanted. A class's numbers of
images and of real ones behind them are in ``classes``.
"""

from __future__ import annotations

from collections import Counter

from ltgc_local.errors import ArtefactError
from ltgc_local.methods.stage import WholeStage
from ltgc_local.methods.tgn.budget import Member, count_wanted
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import DiffusionRecipe, TgnRecipe
from ltgc_local.runs.files import Artefact, Json, Lines


class MergeStage(WholeStage[TgnRecipe], TgnStage):
    """Lists originals and generated images."""

    def make(self) -> list[Artefact]:
        manifest, train = self.manifest, self.corpus.train
        members = [Member("original", int(label), key) for key, label in zip(train.keys, train.labels, strict=True)]
        generated = [
            Member("generated", row.class_id, "_".join(map(str, row.key)), row.init_image)
            for row in self.run.generated(self.input("generated"))
        ]
        wanted, found = count_wanted(manifest, self.recipe.merge), Counter(member.class_id for member in generated)
        recipe = self.recipe
        is_selective = isinstance(recipe, DiffusionRecipe) and recipe.diffusion.accept != "none"
        short = [f"{e.class_name} {found[e.class_id]} of {wanted[e.class_id]}" for e in manifest.tail
                 if found[e.class_id] != wanted[e.class_id]]  # fmt: skip
        if short and not is_selective:
            raise ArtefactError(
                f"generated: not what the budget asks for ({', '.join(short[:3])}); type: --from generated"
            )
        sources = {
            e.class_id: {m.source for m in generated if m.class_id == e.class_id and m.source} for e in manifest.tail
        }
        classes = [
            {
                "class_id": entry.class_id,
                "class_name": entry.class_name,
                "is_head": entry.is_head,
                "original": entry.num_train,
                "wanted": wanted.get(entry.class_id, 0),
                "generated": found[entry.class_id],
                "sources": len(sources.get(entry.class_id, ())),
            }
            for entry in manifest.entries
        ]
        self.progress.advance()
        return [Lines("list", [*members, *generated]), Json("classes", classes)]
