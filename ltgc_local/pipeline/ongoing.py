"""One run on its way: which of its steps are complete, which can start, and what is written when they end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from ltgc_local.methods.base import Step
from ltgc_local.pipeline.damage import check_what_is_read
from ltgc_local.pipeline.decoded import drop_decoded, take_decoded, trains
from ltgc_local.pipeline.fingerprint import check_fingerprint, fingerprint
from ltgc_local.pipeline.needs import Needs, needs_of
from ltgc_local.pipeline.placement import heights
from ltgc_local.pipeline.plan import build_plan, match_steps, with_dependents
from ltgc_local.pipeline.preparation import Request, look_at_inputs, mend_facts, write_facts
from ltgc_local.pipeline.status import describe_change
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.disk import repair
from ltgc_local.runs.reuse import find_finished, take_step

Say = Callable[[str], None]


class OngoingRun(AbstractContextManager["OngoingRun"]):
    """A run that this process holds."""

    def __init__(self, request: Request, say: Say, *, has_gpus: bool) -> None:
        """Prepare; as a context manager it holds the run directory, and looks at the data and the models.

        Raises:
            LtgcError: there is no such step.
        """
        self.request, self.recipe, self.run, self.say = request, request.recipe, RunDirectory(request.out), say
        self.steps, self._has_gpus = build_plan(request.recipe), has_gpus
        last = len(self.steps)
        if request.to_step:
            last = 1 + max(map([step.name for step in self.steps].index, match_steps(self.steps, request.to_step)))
        self._redone: list[str] = []
        if request.from_step:
            self._redone = with_dependents(self.steps, match_steps(self.steps, request.from_step))
        self._todo = {step.name: step for step in self.steps[:last]}
        if request.only is not None:
            self._todo = {step.name: step for step in self.steps if step.name in request.only}
        self._heights = heights(self.steps)
        self._wanted: dict[str, dict[str, Any]] = {}  # the fingerprints of the steps that can start
        self._started: dict[str, tuple[float, int]] = {}  # when, and with how many complete chunks
        self._has_begun = False

    def __enter__(self) -> OngoingRun:
        with ExitStack() as stack:
            stack.enter_context(self.run.locked(self.say))
            self.inputs = look_at_inputs(self.request)
            self._model_bytes = self.inputs.model_bytes()
            self.run.supersede(self._redone)
            mend_facts(self.request, self.inputs, self.say)
            check_what_is_read(tuple(self._todo.values()), self.run)
            self._lock = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)  # which says so if the run was lost to another launcher

    def close(self) -> None:
        """Give the run up, whose steps are done as far as they were asked for."""
        drop_decoded(self.run, self.steps)
        self._lock.close()

    @property
    def out(self) -> Path:
        return self.run.root

    @property
    def is_done(self) -> bool:
        return not self._todo

    def ready(self, elsewhere: Collection[str] = ()) -> list[Step]:
        """Return the steps that can start now. Those that need no work are settled on the way.

        Args:
            elsewhere: what other runs are making, as ``identity`` says: this run will take it from there.

        Raises:
            StaleStep: a step's folder was made or begun with other settings.
        """
        found: list[Step] = []
        is_settled = False
        while not is_settled:
            found, is_settled = [], True
            for step in list(self._todo.values()):
                if step.name in self._started or any(name in self._todo for name in step.reads):
                    continue
                if self._is_complete(step) or self._is_taken(step):
                    del self._todo[step.name]
                    is_settled = False
                elif self.identity(step) not in elsewhere:
                    found.append(step)
        return found

    def identity(self, step: Step) -> str:
        """Return what a step is made from, as text: equal ones make the same files."""
        return json.dumps([step.name, self._wanted[step.name]], sort_keys=True)

    def height(self, step: Step) -> int:
        return self._heights[step.name]

    def needs(self, step: Step) -> Needs:
        cards, has_gpus = self.inputs.cards, self._has_gpus
        return needs_of(step, self.recipe, cards, self._model_bytes, has_gpus=has_gpus)

    def begin(self, step: Step) -> None:
        """Note that a step starts; what other runs have decoded for their training is linked for this one's."""
        if trains(step):
            take_decoded(self.request.reuse, self.run)
        self.run.begin(step.name, self._wanted[step.name])
        self._started[step.name] = time.monotonic(), self.run.count_complete_chunks(step.name)
        self.say(f"{step.name} …")

    def seconds(self, step: Step) -> float:
        """Return how long a step has been running."""
        return time.monotonic() - self._started[step.name][0]

    def chunks_left(self, step: Step) -> int | None:
        """Return how many chunks of a step that runs are not complete; None as long as they are not planned."""
        if step.stage.parallel != "chunks":
            return 0
        plan = self.run.chunk_plan(step.name)
        return None if plan is None else len(plan.chunks) - self.run.count_complete_chunks(step.name)

    def end(self, step: Step) -> None:
        """Declare a step complete whose workers have all ended; if chunks are left and some were made, it goes on.

        Raises:
            ArtefactError: files are missing.
        """
        if self.chunks_left(step) and self.run.count_complete_chunks(step.name) > self._started[step.name][1]:
            del self._started[step.name]
            return
        seconds = round(self.seconds(step), 2)
        made_from = fingerprint(step, self.recipe, self.run, self.inputs.digests)
        done = self.run.write_manifest(step.name, made_from, count_chunks(step, self.run), seconds)
        del self._todo[step.name], self._started[step.name]
        self.say(f"{step.name}: {done.items} items, {seconds:.1f} s, {done.peak_mib} MiB")

    def _is_complete(self, step: Step) -> bool:
        if step.name in self._wanted:
            return False  # it was not, and nobody else works here
        self._wanted[step.name] = fingerprint(step, self.recipe, self.run, self.inputs.digests)
        if not check_fingerprint(step, self._wanted[step.name], self.run):
            return False
        if step.is_report and (damaged := self.run.find_damage(step.name)):
            # No step reads a report, so nothing else would notice.
            self.say(f"{damaged[0][0]}: {damaged[0][1]}; making it again")
            self.run.reopen(step.name)
            return False
        if changed := describe_change(self.run, step.name):
            self.say(f"{step.name}: complete; {changed}; {repair(self.run.root)}")
        return True

    def _is_taken(self, step: Step) -> bool:
        """Take a step from another run if it is finished there; before any work, write down what the run is."""
        if not self._has_begun:  # folders are listed once per command, and only if something is left to do
            self.inputs.corpus.check_images_are_there()
            self._has_begun = True
            write_facts(self.request, self.inputs)
        # A report prints its own run's recipe and provenance, which are in no fingerprint.
        source = None if step.is_report else find_finished(step.name, self._wanted[step.name], self.request.reuse)
        if source is None:
            return False
        take_step(step.name, source, self.run)
        self.say(f"{step.name}: taken from {source.root}")
        return True


def count_chunks(step: Step, run: RunDirectory) -> int:
    """Return how many chunks a step has: those of its plan, or one if its stage makes all files at once."""
    return run.num_chunks(step.name) if step.stage.parallel == "chunks" else 1
