"""The arms of LTGC's plan: what is trained with generated images and without, how it is combined, and how it is tested.

An arm of one tower is ``ltgc`` or ``control``. Of several, or if tau is chosen, the towers are ``ltgc_1``, ``ltgc_2``,
…, and ``ltgc`` is their average or what they say together; or, if one model learns from them, that model, and
``ltgc_ensemble`` is them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ltgc_local.methods.base import Inputs, StageSpec, Step
from ltgc_local.recipe import LtgcRecipe
from ltgc_local.recipe.learning import OF_MIXING
from ltgc_local.seeding import item_seed

TRAIN = StageSpec("ltgc.stages.train:TrainStage", "distributed")
DISTILL = StageSpec("ltgc.stages.train:DistillStage", "distributed")
SOUP = StageSpec("ltgc.stages.train:SoupStage", "distributed")
PRIOR = StageSpec("ltgc.stages.predict:PriorStage", "chunks")
PREDICT = StageSpec("ltgc.stages.predict:PredictStage", "chunks")
WEIGH = StageSpec("ltgc.stages.weigh:WeighStage")
COMBINE = StageSpec("ltgc.stages.weigh:CombineStage", "chunks")

ZERO_SHOT = "zero_shot"  # the arm that nothing trains
TREATED, CONTROL = "ltgc", "control"
#: What shapes a training on originals alone, and what more shapes one with generated images.
TOGETHER, WITH_GENERATED = ("train", "models.training_processes"), "train:generated"
STORING = ("evaluate.shard_size", "evaluate.store_logits")
ON_VALIDATION = {"split": "val"}
ENSEMBLES = ("evaluate.zero_shot_weight", "evaluate.zero_shot_prior")


@dataclass(frozen=True)
class Arms:
    """The steps of all arms; ``validations`` and ``predictions`` are of validation and of test images."""

    trainings: tuple[Step, ...]
    weights: tuple[Step, ...]
    priors: tuple[Step, ...]
    validations: tuple[Step, ...]
    predictions: tuple[Step, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of them, in an order in which each reads only earlier ones."""
        every = (*self.trainings, *self.weights, *self.priors, *self.validations, *self.predictions)
        found: dict[str, Step] = {}

        def add(step: Step) -> None:
            if step in every and step.name not in found:
                for earlier in (each for steps in step.inputs.values() for each in steps):
                    add(earlier)
                found[step.name] = step

        for step in every:
            add(step)
        return tuple(found.values())


def plan_arms(recipe: LtgcRecipe, generated: Step) -> Arms:
    """Return the steps of zero-shot CLIP, of the control and of LTGC."""
    planner = _Planner(recipe, generated)
    if recipe.evaluate.zero_shot:
        keeping: dict[str, Any] = {"keeps_logits": recipe.ensemble.zero_shot, "settings": ("ensemble:zero_shot",)}
        planner.test(ZERO_SHOT, PREDICT, {}, ignores=ENSEMBLES, **keeping)
    if recipe.train.control:
        planner.add(CONTROL)
    planner.add(TREATED)
    return planner.arms


class _Planner:
    """Collects the steps arm by arm."""

    def __init__(self, recipe: LtgcRecipe, generated: Step) -> None:
        self._recipe, self._generated = recipe, generated
        self.trainings: list[Step] = []
        self.weights: list[Step] = []
        self.priors: list[Step] = []
        self._validations: dict[str, Step] = {}
        self._predictions: dict[str, Step] = {}
        if recipe.evaluate.zero_shot_weight is not None and recipe.evaluate.zero_shot_prior != "none":
            self.priors.append(Step("predict/prior", PRIOR, {}, "clip", ("evaluate.shard_size",), is_seeded=False))

    @property
    def arms(self) -> Arms:
        """What was added."""
        kinds = (self.trainings, self.weights, self.priors, self._validations.values(), self._predictions.values())
        trainings, weights, priors, validations, predictions = (tuple(steps) for steps in kinds)
        return Arms(trainings, weights, priors, validations, predictions)

    def add(self, side: str) -> None:
        """Add the steps of the control, or of LTGC."""
        ensemble = self._recipe.ensemble
        if ensemble.is_soup:
            self._add_soup(side)
            return
        towers: list[Step] = []
        for number, overrides in enumerate(tower_settings(self._recipe, with_generated=side == TREATED), start=1):
            name = f"{side}_{number}" if ensemble.is_chosen else side
            towers.append(self._train(name, TRAIN, side, overrides))
            self.test(name, PREDICT, {"arm": (towers[-1],)}, keeps_logits=ensemble.is_chosen)
        if not ensemble.is_chosen:
            return
        distills = ensemble.distill and side == TREATED
        whole = f"{side}_ensemble" if distills else side
        members = [*(step.arm for step in towers), *([ZERO_SHOT] if ensemble.zero_shot else [])]
        first = self._validations.get(f"{CONTROL}_1") if side == TREATED else None
        limits = () if first is None else (first,)
        inputs: Inputs = {"towers": tuple(self._validations[name] for name in members), "control": limits}
        weigh = Step(f"weigh/{side}", WEIGH, inputs, None, ("ensemble:weigh",), arm=whole, is_seeded=False)
        self.weights.append(weigh)
        for kind, tests, options in (
            ("validate", self._validations, ON_VALIDATION),
            ("predict", self._predictions, {}),
        ):
            inputs = {"weights": (weigh,), "towers": tuple(tests[name] for name in members)}
            tests[whole] = Step(
                f"{kind}/{whole}", COMBINE, inputs, None, STORING, arm=whole, is_seeded=False, options=options
            )
        if distills:
            student: dict[str, Any] = {
                "train.mixing": ensemble.distill_mixing,
                "train.sampler": ensemble.distill_sampler,
            }
            student |= {"train.epochs": ensemble.distill_epochs} if ensemble.distill_epochs else {}
            teachers: Inputs = {"teachers": tuple(towers), "weights": (weigh,)}
            one = self._train(side, DISTILL, side, student, ("ensemble:distill",), teachers)
            self.test(side, PREDICT, {"arm": (one,)})

    def _add_soup(self, side: str) -> None:
        """Add the steps of towers that are averaged. Their adapters, beside each other, are one of a higher rank."""
        ensemble, train = self._recipe.ensemble, self._recipe.train
        every = tower_settings(self._recipe, with_generated=side == TREATED)
        towers = tuple(self._train(f"{side}_{n}", TRAIN, side, each) for n, each in enumerate(every, start=1))
        overrides = {
            "train.lora_rank": train.lora_rank * len(towers),
            "train.lora_alpha": train.lora_alpha * len(towers),
            "train.max_imbalance": None,
            "train.epochs": ensemble.head_epochs,
            "train.real_epochs": ensemble.head_epochs,
            "train.last_layer_epochs": ensemble.head_epochs,
        }
        soup = Step(f"train/{side}", SOUP, {"towers": towers}, "clip", TOGETHER, arm=side, overrides=overrides)
        self.trainings.append(soup)
        self.test(side, PREDICT, {"arm": (soup,)})

    def test(
        self,
        arm: str,
        stage: StageSpec,
        inputs: Inputs,
        *,
        ignores: Sequence[str] = (),
        keeps_logits: bool = False,
        settings: Sequence[str] = (),
    ) -> None:
        """Add the arm's steps on validation and on test images.

        Args:
            settings: what decides on ``keeps_logits``, where an arm of this name may keep them or not.
        """
        facts: dict[str, Any] = {"arm": arm, "is_seeded": False}
        options = {"keeps_logits": keeps_logits}
        shaping = ("evaluate.shard_size", *settings)
        self._validations[arm] = Step(
            f"validate/{arm}", stage, inputs, "clip", shaping, options=options | ON_VALIDATION, **facts
        )
        tested: Inputs = {**inputs, "prior": tuple(self.priors)} if arm != ZERO_SHOT else inputs
        shaping = ("evaluate:predict", *settings)
        self._predictions[arm] = Step(
            f"predict/{arm}", stage, tested, "clip", shaping, tuple(ignores), options=options, **facts
        )

    def _train(
        self,
        arm: str,
        stage: StageSpec,
        side: str,
        overrides: Mapping[str, Any],
        more: Sequence[str] = (),
        teachers: Inputs | None = None,
    ) -> Step:
        with_generated = side == TREATED
        inputs: Inputs = {**({"generated": (self._generated,)} if with_generated else {}), **(teachers or {})}
        settings = (*TOGETHER, *([WITH_GENERATED] if with_generated else []), *more)
        step = Step(f"train/{arm}", stage, inputs, "clip", settings, arm=arm, overrides=overrides)
        self.trainings.append(step)
        return step


def tower_settings(recipe: LtgcRecipe, with_generated: bool) -> list[dict[str, Any]]:
    """Return for each tower the fields of the recipe that it has values of its own for.

    Towers that are trained alike have a seed each. Two controls are alike if they differ only in how generated images
    are mixed in, because they have none.
    """
    found: list[dict[str, Any]] = []
    seen: list[dict[str, Any]] = []
    unused = set() if with_generated else {"mixing", *OF_MIXING}
    for number in range(recipe.ensemble.towers):
        changed = recipe.ensemble.settings_of(number)
        values = {key: value for key, value in changed.items() if value != getattr(recipe.train, key)}
        if recipe.ensemble.subsets:
            values["max_imbalance"] = 2.0**number
        effective = {key: value for key, value in values.items() if key not in unused}
        repeats = seen.count(effective)
        seen.append(effective)
        seed = {"train_seed": item_seed(recipe.training_seed, "tower", repeats)} if repeats else {}
        found.append({f"train.{key}": value for key, value in values.items()} | seed)
    return found
