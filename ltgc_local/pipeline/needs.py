"""What the workers of a step need. It follows from plan and recipe, never from what else runs, so nor do results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ltgc_local.backends.registry import BACKENDS, VLLM, backend_of
from ltgc_local.methods.base import Step
from ltgc_local.model_store.cards import TEXT_ROLES, ModelCard, Role
from ltgc_local.recipe import Recipe, TextModels
from ltgc_local.regular_files import MIB

PROCESS_MIB = 700  # of a process that has imported the model libraries
COPIES = 2  # of a model's files in memory: in another number format, or with what it computes


@dataclass(frozen=True)
class Needs:
    """What a step's workers need.

    Attributes:
        gpus, threads, memory_mib: of each worker; a worker without a GPU computes on the CPU.
        processes: how many start together, each with its share of every batch; else 1.
        most: how many workers may share the step's chunks; None for as many as there is room for.
    """

    gpus: int = 0
    threads: int = 1
    memory_mib: int = PROCESS_MIB
    processes: int = 1
    most: int | None = 1


def needs_of(
    step: Step, recipe: Recipe, cards: Mapping[Role, ModelCard], model_bytes: Mapping[Role, int], *, has_gpus: bool
) -> Needs:
    """Return what a step's workers need.

    Args:
        cards, model_bytes: the card of each of the recipe's roles, and the size of its files.
        has_gpus: whether this machine has any that the recipe allows.
    """
    models, roles = recipe.models, [role for role in (step.model_role, step.co_resident) if role]
    gpus = 0
    if has_gpus and models.device != "cpu" and (roles or "models.device" in step.settings):
        gpus = 1
        if step.model_role in TEXT_ROLES and isinstance(models, TextModels):
            gpus = models.tensor_parallel or cards[step.model_role].tensor_parallel or 1
    memory = PROCESS_MIB + COPIES * sum(model_bytes[role] for role in roles) // MIB
    processes = models.training_processes if step.stage.parallel == "distributed" else 1
    most = None if models.workers == "auto" else models.workers
    return Needs(gpus, models.threads, memory, processes, most if step.stage.parallel == "chunks" else 1)


def modules_of(step: Step, recipe: Recipe) -> tuple[str, ...]:
    """Return the modules that a worker of a step imports. vLLM is left out: it starts threads."""
    modules = [f"ltgc_local.methods.{step.stage.entry.partition(':')[0]}"]
    for role in (step.model_role, step.co_resident):
        if role and (backend := backend_of(role, recipe)) != VLLM:
            modules.append(BACKENDS[role, backend].partition(":")[0])
    return tuple(dict.fromkeys(modules))
