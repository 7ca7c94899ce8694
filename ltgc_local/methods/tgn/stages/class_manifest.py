"""Classes: the manifest of head and tail, by which every later step numbers and names the classes."""

from __future__ import annotations

from ltgc_local.methods.stage import WholeStage
from ltgc_local.methods.tgn.classes import build_manifest
from ltgc_local.methods.tgn.stage import TgnStage
from ltgc_local.recipe import TgnRecipe
from ltgc_local.runs.files import Artefact, Lines


class ClassManifestStage(WholeStage[TgnRecipe], TgnStage):
    """Ranks the classes by training images."""

    def make(self) -> list[Artefact]:
        corpus = self.corpus
        manifest = build_manifest(corpus.class_names, corpus.class_counts(), self.recipe.split)
        self.progress.advance()
        return [Lines("classes", manifest.entries)]
