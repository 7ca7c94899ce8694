"""Template list: "A photo of the class [y]." as often as the class is to be drawn; the list without any model.

What the paper's Figure 6 sets beside the extended list. The numbers are those of the extended list, N_y = K_y - M_y,
so that only the words differ.
"""

from __future__ import annotations

from ltgc_local.datasets.groups import num_extended
from ltgc_local.methods.ltgc.prompts import class_sentence
from ltgc_local.methods.ltgc.stages.describe import described_rows
from ltgc_local.methods.stage import WholeStage
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.records import Description
from ltgc_local.runs.files import Artefact, Json, Lines


class TemplateListStage(WholeStage[LtgcRecipe]):
    """Repeats the plain sentence as often as the class lacks images."""

    def make(self) -> list[Artefact]:
        names = self.corpus.class_names
        descriptions, summary = [], {}
        for class_id in self.tail:
            existing = len(described_rows(self, class_id))
            wanted = num_extended(existing, self.recipe.extend.max_descriptions)
            sentence = class_sentence(names[class_id])
            descriptions += [Description(class_id, existing + i, 0, sentence, "extended") for i in range(wanted)]
            summary[names[class_id]] = {"existing": existing, "extended": wanted, "missing": 0, "asks": 0}
        return [Lines("rejected", []), Json("summary", summary), Lines("descriptions", descriptions)]
