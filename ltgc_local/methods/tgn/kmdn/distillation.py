"""Mutual distillation: who teaches whom in which epoch.

    for epoch in 0 .. distill_epochs - 1:
        phase = epoch // distill_interval        even: the first teacher teaches the other; odd: the other way round

"Mutual" is so one alternation at the released 100 epochs of interval 50: tail teaches head on head images, then the
head, informed by the tail, teaches the tail on tail images. The networks are compared by feature maps, not by logits:
their classes are others.
"""

from __future__ import annotations

from ltgc_local.methods.tgn.kmdn.fitting import Lesson
from ltgc_local.recipe.schema import Kmdn

HEAD, TAIL = 0, 1


def list_lessons(settings: Kmdn) -> tuple[Lesson, ...]:
    """Return what each epoch of distillation does, the head being network 0 and the tail network 1."""
    first = TAIL if settings.first_teacher == "tail" else HEAD
    lessons = []
    for epoch in range(settings.distill_epochs):
        phase, within = divmod(epoch, settings.distill_interval)
        teacher = first if phase % 2 == 0 else 1 - first
        lessons.append(Lesson(1 - teacher, teacher, epoch if settings.lr_schedule == "global" else within))
    return tuple(lessons)
