"""Extend: Prompt 2 until the class has K_y descriptions (number check), Prompt 3 on the new ones (repetition check).

Differs from the paper: Prompt 2 shows a random sample of the list instead of all of it, and Prompt 3 is asked about the
new sentences only, a few at a time, because hundreds of sentences are more than a prompt can hold. What repeats an
existing sentence, or one of another Prompt 3, is found by the deterministic rule alone.

Differs from the released code: accepted sentences are fed back into the next ask; the repetition check exists, by the
model and by a deterministic rule; asks are limited, and a shortfall is recorded instead of looping forever.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ltgc_local.backends.protocols import ChatModel, Sampling
from ltgc_local.datasets.groups import num_extended
from ltgc_local.errors import BackendError
from ltgc_local.methods.ltgc.prompts import class_sentence, fill_extend, fill_repetition
from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.methods.ltgc.replies.repetition import RepetitionCheck, kept_by_repetition_check
from ltgc_local.methods.ltgc.replies.structured import descriptions_schema
from ltgc_local.methods.ltgc.stages.asking import NOTHING_FITS, ReplyReader, ask
from ltgc_local.methods.ltgc.stages.describe import described_rows
from ltgc_local.methods.stage import ChunkedStage, Stage, WholeStage, split
from ltgc_local.recipe import DescribedRecipe, LtgcRecipe
from ltgc_local.recipe.generation import Extend
from ltgc_local.records import Description, Exchange
from ltgc_local.runs.files import Artefact, Json, Lines

SHOWN_NAMES = 10  # classes named in a message

log = logging.getLogger(__name__)


@dataclass
class ClassList:
    """One class's growing list; ``checked`` counts the extended descriptions that have passed Prompt 3."""

    class_id: int
    class_name: str
    existing: list[str]
    num_wanted: int
    repetition: RepetitionCheck
    extended: list[str] = field(default_factory=list)
    checked: int = 0
    asks: int = 0
    useless: int = 0  # consecutive asks that gave no readable sentence

    @property
    def num_missing(self) -> int:
        return self.num_wanted - len(self.extended)


class ExtendStage(ChunkedStage[LtgcRecipe | DescribedRecipe, int]):
    """Extends the lists of several classes side by side."""

    def chunks(self) -> list[Sequence[int]]:
        return split(self.tail, self.recipe.extend.batch_size)

    def make_chunk(self, chunk: Sequence[int]) -> list[Artefact]:
        lists = [self._start(class_id) for class_id in chunk]
        extension = Extension(self, lists)
        extension.run()
        descriptions = [
            Description(each.class_id, len(described_rows(self, each.class_id)) + place, 0, text, "extended")
            for each in lists
            for place, text in enumerate(each.extended)
        ]
        summary = {
            each.class_name: _counts(len(each.existing), len(each.extended), each.num_missing, each.asks)
            for each in lists
        }
        self.progress.advance(len(chunk))
        files = extension.reader.files(extension.exchanges)
        return [*files, Json("summary", summary), Lines("descriptions", descriptions)]

    def review(self, numbers: Collection[int], is_whole: bool) -> None:
        """Reject a class with too few descriptions as soon as its chunk is complete; at the end warn of short lists.

        Raises:
            BackendError: a class has fewer descriptions than ``min_descriptions``.
        """
        settings = self.recipe.extend
        if not (is_whole or settings.min_descriptions):
            return
        found: dict[str, dict[str, int]] = {}
        for of_chunk in self.run.values_of(self.step.name, numbers, "summary"):
            found |= of_chunk
        totals = {name: each["existing"] + each["extended"] for name, each in found.items()}
        short = {name: number for name, number in totals.items() if number < settings.min_descriptions}
        if short:
            raise BackendError(
                f"extend: {len(short)} of {len(found)} classes have fewer than {settings.min_descriptions} "
                f"descriptions (extend.min_descriptions): {_listed(short)}; the llm's replies are in "
                f"{self.run.folder(self.step.name)}/exchanges-*.jsonl. To continue with what there is, add --set "
                f"extend.min_descriptions=0; to ask again and more often, add --set "
                f"extend.max_asks={2 * settings.max_asks} --from extend"
            )
        fewer = {name: each["extended"] for name, each in found.items() if each["missing"] > 0}
        nothing = {name: totals[name] for name, extended in fewer.items() if not extended}
        if nothing:
            log.warning("extend: found nothing for %d of %d classes: %s", len(nothing), len(found), _listed(nothing))
        if some := {name: totals[name] for name in fewer if name not in nothing}:
            log.warning(
                "extend: found fewer descriptions than the %d asked for (K_y) for %d of %d classes: %s",
                settings.max_descriptions, len(some), len(found), _listed(some),
            )  # fmt: skip

    @cached_property
    def _existing(self) -> dict[int, list[str]]:
        """The existing descriptions by class."""
        texts: defaultdict[int, list[str]] = defaultdict(list)
        for description in self.run.records(self.input("descriptions"), "descriptions", Description):
            texts[description.class_id].append(description.text)
        return texts

    def _start(self, class_id: int) -> ClassList:
        settings, name = self.recipe.extend, self.corpus.class_names[class_id]
        existing, repetition = self._existing[class_id], RepetitionCheck(name, settings.repetition_similarity)
        for text in existing:
            repetition.add(text)
        return ClassList(class_id, name, existing, num_extended(len(existing), settings.max_descriptions), repetition)


class TemplateListStage(WholeStage[LtgcRecipe]):
    """Repeats "A photo of the class [y]." for every image that a class lacks: the list without any model.

    The paper's Figure 6 compares the extended list with it. The numbers are those of the extended list, N_y = K_y -
    M_y, so only the words differ.
    """

    def make(self) -> list[Artefact]:
        descriptions, summary = [], {}
        for class_id in self.tail:
            name, existing = self.corpus.class_names[class_id], len(described_rows(self, class_id))
            wanted, text = num_extended(existing, self.recipe.extend.max_descriptions), class_sentence(name)
            descriptions += [Description(class_id, existing + i, 0, text, "extended") for i in range(wanted)]
            summary[name] = _counts(existing, wanted, 0, 0)
        return [Lines("rejected", []), Json("summary", summary), Lines("descriptions", descriptions)]


def _counts(existing: int, extended: int, missing: int, asks: int) -> dict[str, int]:
    return {"existing": existing, "extended": extended, "missing": missing, "asks": asks}


def _listed(numbers: Mapping[str, int]) -> str:
    """List classes with their numbers of descriptions, smallest first."""
    names = sorted(numbers, key=lambda name: numbers[name])
    some = ", ".join(f"{name!r} {numbers[name]}" for name in names[:SHOWN_NAMES])
    return some + (" …" if len(names) > SHOWN_NAMES else "")


class Extension:
    """The number check and the repetition check, on the lists of several classes side by side."""

    def __init__(self, stage: Stage[LtgcRecipe | DescribedRecipe], lists: list[ClassList]) -> None:
        self.settings: Extend = stage.recipe.extend
        self.lists = lists
        self.exchanges: list[Exchange] = []
        self.reader = ReplyReader(stage, "extend")
        self._stage = stage
        self._is_structured = stage.is_structured("llm", self.settings.reply_form)

    def run(self) -> None:
        """Ask until every class has its number, or has been asked ``max_asks`` times."""
        while asked := [each for each in self.lists if self._is_asked(each)]:
            self._ask(asked)
            self._check_repetition([each for each in asked if not self._is_asked(each)])
            missing = sum(max(0, each.num_missing) for each in self.lists)
            self._stage.progress.note(f"{missing} descriptions to go")
        given_up = [each for each in self.lists if each.num_missing > 0 and each.asks < self.settings.max_asks]
        if given_up:
            log.warning(
                "extend: %d classes given up after %d asks that gave nothing readable, such as %r: the llm does not "
                "answer in Template 1; see the exchanges in the run's extend folder",
                len(given_up), self.settings.max_useless_asks, given_up[0].class_name,
            )  # fmt: skip

    def _is_asked(self, each: ClassList) -> bool:
        """Return whether to ask again; a class whose asks give nothing readable is given up early."""
        most = self.settings.max_useless_asks
        return each.num_missing > 0 and each.asks < self.settings.max_asks and (most is None or each.useless < most)

    def _ask(self, lists: list[ClassList]) -> None:
        """Ask Prompt 2, for each class as often as it needs and ``parallel_asks`` allows."""
        settings, prompts, asked = self.settings, [], []
        for each in [one for one in lists for _ in range(self._num_asks(one))]:
            rng = random.Random(self._stage.seed("extend", each.class_id, each.asks))
            known = each.existing + each.extended
            shown = rng.sample(known, min(len(known), settings.context_descriptions))
            prompts.append(fill_extend(each.class_name, shown, settings.per_ask, self._is_structured))
            asked.append(each)
            each.asks += 1
        schema = descriptions_schema(settings.per_ask) if self._is_structured else None
        replies = self._reply("extend", asked, prompts, settings.temperature, schema)
        for each, reply in zip(asked, replies, strict=True):
            parsed = parse_descriptions(reply, each.class_name)
            each.useless = 0 if parsed.sentences else each.useless + 1
            for line, reason in parsed.dropped:
                self.reader.reject(each.class_id, line, reason)
            for sentence in parsed.sentences:
                self._take(each, sentence)

    def _num_asks(self, each: ClassList) -> int:
        needed = -(-each.num_missing // self.settings.per_ask)
        return min(needed, self.settings.parallel_asks, self.settings.max_asks - each.asks)

    def _take(self, each: ClassList, sentence: str) -> None:
        if each.num_missing <= 0:
            self.reader.reject(each.class_id, sentence, "more than K_y")
        elif not (text := self.reader.fit(each.class_id, sentence)):
            self.reader.reject(each.class_id, sentence, NOTHING_FITS)
        elif repeated := each.repetition.repeated(text):
            self.reader.reject(each.class_id, text, "repeats another description", repeated)
        else:
            each.repetition.add(text)
            each.extended.append(text)

    def _check_repetition(self, lists: list[ClassList]) -> None:
        """Ask Prompt 3 about the sentences that have not been checked, in lists of ``repetition_batch``."""
        size = self.settings.repetition_batch
        parts = [
            (each, each.extended[start : start + size])
            for each in lists
            for start in range(each.checked, len(each.extended), size)
        ]
        prompts = [fill_repetition(each.class_name, part) for each, part in parts]
        replies = self._reply("repetition", [each for each, _ in parts], prompts, temperature=0.0)
        for (each, part), reply in zip(parts, replies, strict=True):
            kept = kept_by_repetition_check(reply, each.class_name, part, self.settings.repetition_confirm)
            for sentence, keep in zip(part, kept or [True] * len(part), strict=True):
                if not keep:
                    each.extended.remove(sentence)
                    self.reader.reject(each.class_id, sentence, "repetitive by Prompt 3")
        for each in lists:
            each.checked = len(each.extended)

    def _reply(
        self,
        name: str,
        lists: list[ClassList],
        prompts: list[str],
        temperature: float,
        schema: dict[str, Any] | None = None,
    ) -> list[str]:
        model: ChatModel = self._stage.model
        seed = self._stage.seed(name, *(f"{each.class_id}:{each.asks}" for each in lists))
        sampling = Sampling(self.settings.max_new_tokens, temperature, self.settings.top_p, seed)
        keys = [(each.class_id, number) for number, each in enumerate(lists, start=len(self.exchanges))]
        replies, exchanges = ask(name, keys, prompts, lambda _, turns: model.reply(turns, sampling, schema))
        self.exchanges += exchanges
        return replies
