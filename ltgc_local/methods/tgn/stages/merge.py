"""Two lists: the class manifest of head and tail, and the images that train the classifier.

Every later step numbers and names the classes by the manifest. The list of images names originals and generated images,
which stay where they are, and the real image that each generated one was made from. An accept test may have left fewer
than wanted; ``classes`` has the numbers of each class.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from ltgc_local.errors import ArtefactError
from ltgc_local.methods.stage import WholeStage
from ltgc_local.methods.tgn.budget import Member, count_wanted
from ltgc_local.methods.tgn.classes import build_manifest
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import DiffusionRecipe, TgnRecipe
from ltgc_local.runs.files import Artefact, Json, Lines
from ltgc_local.runs.generated import read_rows
from ltgc_local.runs.row_index import RowIndex

ROWS = 4096  # read at once


class ClassManifestStage(WholeStage[TgnRecipe]):
    """Ranks the classes by training images."""

    def make(self) -> list[Artefact]:
        manifest = build_manifest(self.corpus.class_names, self.corpus.class_counts(), self.recipe.split)
        self.progress.advance()
        return [Lines("classes", manifest.entries)]


class MergeStage(WholeStage[TgnRecipe], TgnStage):
    """Lists originals and generated images."""

    def make(self) -> list[Artefact]:
        recipe, train = self.recipe, self.corpus.train
        generated = Generated(self.run.index(self.input("generated")))
        wanted, found = count_wanted(self.manifest, recipe.merge), Counter(generated.index.keys[:, 0].tolist())
        sources: defaultdict[int, set[str]] = defaultdict(set)
        for member in generated:
            sources[member.class_id] |= {member.source} - {""}
        short = [entry for entry in self.manifest.tail if found[entry.class_id] != wanted[entry.class_id]]
        if short and not (isinstance(recipe, DiffusionRecipe) and recipe.diffusion.accept != "none"):
            some = ", ".join(f"{e.class_name} {found[e.class_id]} of {wanted[e.class_id]}" for e in short[:3])
            raise ArtefactError(f"generated: not what the budget asks for ({some}); type: --from generated")
        classes = [
            {
                "class_id": entry.class_id,
                "class_name": entry.class_name,
                "is_head": entry.is_head,
                "original": entry.num_train,
                "wanted": wanted.get(entry.class_id, 0),
                "generated": found[entry.class_id],
                "sources": len(sources[entry.class_id]),
            }
            for entry in self.manifest.entries
        ]
        self.progress.advance()
        labels = zip(train.keys, train.labels.tolist(), strict=True)
        originals = (Member("original", label, key) for key, label in labels)
        return [Lines("list", chain(originals, generated)), Json("classes", classes)]


@dataclass(frozen=True, eq=False)
class Generated(Iterable[Member]):
    """The generated images as members of the list, in the order of their keys; memory holds some of them."""

    index: RowIndex

    def __iter__(self) -> Iterator[Member]:
        for part in self.index.parts(ROWS):
            for row in read_rows(part.items()):
                yield Member("generated", row.class_id, "_".join(map(str, row.key)), row.init_image)
