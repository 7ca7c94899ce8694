"""Measure the miniature language models on prompts and pictures that they were not trained on.

    python -m miniatures.measure_text [--threads 2] [--only llm|vlm] [--backend vllm]

Loads data/miniatures/{qwen3,qwen2.5-vl} as a run does, prints a Markdown
table and writes data/miniatures/quality_text.json, each task with its date and versions. Never trains. Prompt 3 and the
pictures' replies are greedy, the others sampled. "Plausible" and "typical" are shares in the pool: at least 5 % and
20 % of the class's pictures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import re
import time
from collections import Counter
from collections.abc import Sequence

import torch
import transformers
from PIL import Image

from ltgc_local.backends.protocols import Message, Sampling, TextOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.methods.ltgc import prompts
from miniatures.attributes import VALUES, names_of
from miniatures.captions import MEANING, read_back
from miniatures.conversations import (
    RARE,
    Conversation,
    PoolTable,
    Subject,
    bad_reply,
    extend,
    form_reminder,
    list_size,
    pick_subject,
    refine,
    repetition_list,
    summarize,
)
from miniatures.pool import CLASS_NAMES, WEIGHTS, load

PLAUSIBLE = 0.05
GREEDY = Sampling(700)
SAMPLED, SHORT = Sampling(700, 0.9, 0.95), Sampling(80, 0.9, 0.95)
Figures = dict[str, float]


def ratio(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0


def parse_line(line: str, class_name: str) -> dict[str, str] | None:
    """Return the attributes that a Template 1 or 2 sentence of the class states, None where it has not that form."""
    line = re.sub(r"^(-|\d+\.) ", "", line.strip())
    if not re.fullmatch(rf"A photo of the class {re.escape(class_name)} with [^.]+\.", line):
        return None
    return read_back(line) or None


def is_common(table: PoolTable, class_id: int, attribute: str, value: str, least: float = RARE) -> bool:
    """Say whether at least this share of the class's pictures has the value; False for other classes' attributes."""
    return attribute in names_of(class_id) and table.share(class_id, attribute, value) >= least


def asked_about(question: str) -> str:
    """Return the class name that a prompt asks about."""
    found = re.search(r"Template [12]: \"A photo of the class (.+?)(, \{| with \{)", question)
    if found is None:
        raise ValueError(f"no class name in {question!r}")
    return found[1]


def as_messages(turns: Sequence[str]) -> list[Message]:
    return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


class Measured:
    """A shipped miniature, loaded and asked by the product's own code path."""

    def __init__(self, role: str, folder: str, backend: str) -> None:
        self.model = load_model(
            role, backend, WEIGHTS / folder, TextOptions(device="cpu", dtype="float32", max_model_len=2048)
        )

    def reply(self, dialogues: Sequence[Sequence[str]], sampling: Sampling = GREEDY) -> list[str]:
        return self.model.reply([as_messages(turns) for turns in dialogues], sampling)

    def describe(self, images: Sequence[Image.Image], dialogues: Sequence[Sequence[str]]) -> list[str]:
        replies: list[str] = []
        for i in range(0, len(images), 64):
            turns = [as_messages(turns) for turns in dialogues[i : i + 64]]
            replies += self.model.reply(turns, Sampling(64), images=images[i : i + 64])
        return replies


def measure_extend(model: Measured, table: PoolTable, rng: random.Random, count: int = 120) -> Figures:
    asked = [extend(table, rng)[0] for _ in range(count)]
    n: Counter[str] = Counter()
    for question, reply in zip(asked, model.reply([[q] for q in asked], SAMPLED), strict=True):
        name = asked_about(question)
        seen = {line for line in question.split("\n") if line.startswith("- ")}
        seen_values = {tuple((parse_line(line, name) or {}).values()) for line in seen}
        lines = ["- " + re.sub(r"^\d+\. ", "", line) for line in reply.split("\n")]
        n["right count"] += f"Write {len(lines)} descriptions" in question
        for line in lines:
            stated = parse_line(line, name)
            n["lines"] += 1
            if stated is None:
                continue
            values = tuple(stated.values())
            n.update(parsed=1, new=line not in seen, new_values=values not in seen_values)
            seen.add(line)
            seen_values.add(values)
            if name in CLASS_NAMES:
                label = CLASS_NAMES.index(name)
                n.update(real=1, stated=len(values), in_pool=values in table.combinations[label])
                n["plausible"] += sum(is_common(table, label, *item, PLAUSIBLE) for item in stated.items())
    return {
        "prompts": count,
        "lines": n["lines"],
        "lines that parse as Template 1 of the class": ratio(n["parsed"], n["lines"]),
        "replies with as many lines as wanted": ratio(n["right count"], count),
        "parsed lines not in the list nor before, as text": ratio(n["new"], n["parsed"]),
        "parsed lines not in the list nor before, by attributes": ratio(n["new_values"], n["parsed"]),
        "stated values plausible for the class": ratio(n["plausible"], n["stated"]),
        "lines with a combination that the pool has": ratio(n["in_pool"], n["real"]),
    }


def measure_repetition(model: Measured, table: PoolTable, rng: random.Random, count: int = 100) -> Figures:
    subjects = [pick_subject(rng) for _ in range(count)]
    cases = [repetition_list(table, subject, list_size(2, 16, rng), rng) for subject in subjects]
    asked = [[prompts.fill_repetition(s.name, texts)] for s, (texts, _) in zip(subjects, cases, strict=True)]
    replies = model.reply(asked)
    lines = verbatim = exact = removed = rightly = 0
    repeats, caught = {"same words": 0, "other words": 0}, {"same words": 0, "other words": 0}
    for (texts, firsts), reply in zip(cases, replies, strict=True):
        got = [line.removeprefix("- ") for line in reply.split("\n")]
        lines, verbatim = lines + len(got), verbatim + sum(line in texts for line in got)
        exact += got == [text for text, first in zip(texts, firsts, strict=True) if first]
        left = list(got)
        for i, (text, first) in enumerate(zip(texts, firsts, strict=True)):
            is_kept = text in left
            if is_kept:
                left.remove(text)
            removed, rightly = removed + (not is_kept), rightly + (not is_kept and not first)
            if not first:
                kind = "same words" if text in texts[:i] else "other words"
                repeats[kind], caught[kind] = repeats[kind] + 1, caught[kind] + (not is_kept)
    return {
        "prompts": count,
        "reply lines verbatim from the list": ratio(verbatim, lines),
        "replies right as a whole": ratio(exact, count),
        "precision of removing": ratio(rightly, removed),
        "recall of removing": ratio(sum(caught.values()), sum(repeats.values())),
        "recall, repeats in the same words": ratio(caught["same words"], repeats["same words"]),
        "recall, repeats in other words": ratio(caught["other words"], repeats["other words"]),
    }


def measure_sentences(model: Measured, table: PoolTable, conversations: list[Conversation], is_modal: bool) -> Figures:
    """Measure one-sentence replies: form, and values that are modal, or typical, for the class."""
    n: Counter[str] = Counter()
    replies = model.reply([c[:-1] for c in conversations], SHORT)
    for (question, _), reply in zip(conversations, replies, strict=True):
        name = asked_about(question)
        stated = parse_line(reply, name)
        n["parsed"] += stated is not None
        if name not in CLASS_NAMES:
            continue
        label = CLASS_NAMES.index(name)
        modal = table.modal(label)
        good = {
            (a, v) for a in modal for v in VALUES[a] if (modal[a] == v if is_modal else is_common(table, label, a, v))
        }
        shown = {MEANING[phrase]: phrase for phrase in MEANING if phrase in question}
        n.update(stated=len(stated or {}), right=len(good & set((stated or {}).items())))
        n.update(shown=len(shown), shown_right=len(good & set(shown)))
        n["kept"] += sum(phrase in reply for key, phrase in shown.items() if key in good)
    figures = {
        "prompts": len(conversations),
        "replies that parse": ratio(n["parsed"], len(conversations)),
        f"stated values {'modal' if is_modal else 'typical'} for the class": ratio(n["right"], n["stated"]),
    }
    if n["shown"]:
        figures["the same of the description in the prompt"] = ratio(n["shown_right"], n["shown"])
        figures["typical phrases kept word for word"] = ratio(n["kept"], n["shown_right"])
    return figures


def measure_llm(table: PoolTable, backend: str) -> dict[str, Figures]:
    model, rng = Measured("llm", "qwen3", backend), random.Random(20261)
    figures = {"Prompt 2, extend": measure_extend(model, table, rng)}
    figures["Prompt 3, repetition"] = measure_repetition(model, table, rng)
    figures["Prompt 4, summarize"] = measure_sentences(model, table, [summarize(table, rng) for _ in range(60)], True)
    figures["Prompt 5, refine"] = measure_sentences(model, table, [refine(table, rng) for _ in range(120)], False)
    reminders = [form_reminder(table, rng) for _ in range(60)]
    parsed = model.reply([c[:-1] for c in reminders], SHORT)
    names = [re.search(r'class (.+) with" and', c[2])[1] for c in reminders]  # type: ignore[index]
    good = sum(parse_line(reply, name) is not None for reply, name in zip(parsed, names, strict=True))
    figures["Form reminder"] = {"prompts": len(reminders), "replies that parse": ratio(good, len(reminders))}
    asked = [extend(table, rng)[:1] for _ in range(16)]
    start = time.perf_counter()
    model.reply(asked, SAMPLED)
    figures["Speed"] = {"seconds for 16 Prompt 2s": round(time.perf_counter() - start, 2)}
    return figures


def judge_replies(
    replies: Sequence[str], labels: Sequence[int], truths: Sequence[dict[str, str]], table: PoolTable
) -> Figures:
    """Compare stated attributes with the computed ones, and with always saying the class's most common value."""
    n: Counter[str] = Counter()
    for reply, label, truth in zip(replies, labels, truths, strict=True):
        stated = parse_line(reply, CLASS_NAMES[label])
        n["parsed"] += stated is not None
        modal = table.modal(label)
        for name, value in truth.items():
            n.update({name: 1, "all": 1, f"modal {name}": modal[name] == value, "modal": modal[name] == value})
        for name, value in (stated or {}).items():
            is_true = truth.get(name) == value
            n.update({f"said {name}": 1, "said": 1, f"true {name}": is_true, "true": is_true})
    figures = {
        "pictures": len(replies),
        "replies that parse as Template 1 of the class": ratio(n["parsed"], len(replies)),
        "stated values true of the picture": ratio(n["true"], n["said"]),
        "the same if the most common value were said": ratio(n["modal"], n["all"]),
        "different replies": ratio(len(set(replies)), len(replies)),
    }
    for name in VALUES:
        figures[f"{name} true"] = ratio(n[f"true {name}"], n[f"said {name}"])
        figures[f"{name} true if the most common were said"] = ratio(n[f"modal {name}"], n[name])
    return figures


def measure_vlm(table: PoolTable, backend: str) -> dict[str, Figures]:
    model, val, rng = Measured("vlm", "qwen2.5-vl", backend), load("val"), random.Random(20262)
    images, labels = [Image.fromarray(image).convert("RGB") for image in val.images], val.labels.tolist()
    asked = [[prompts.fill_describe(CLASS_NAMES[label])] for label in labels]
    start = time.perf_counter()
    model.describe(images[:178], asked[:178])
    seconds = round(time.perf_counter() - start, 2)
    figures = {"Prompt 1, describe": judge_replies(model.describe(images, asked), labels, val.attributes, table)}
    dialogues = []
    for question, label in zip(asked[:200], labels[:200], strict=True):
        subject = Subject(CLASS_NAMES[label], label)
        bad = bad_reply(subject, table.draw(label, rng), rng)
        dialogues.append([*question, bad, prompts.fill_form_reminder(subject.name)])
    reminded = judge_replies(model.describe(images[:200], dialogues), labels[:200], val.attributes[:200], table)
    figures["Form reminder, with picture"] = dict(list(reminded.items())[:4])
    figures["Speed, vision"] = {"seconds for 178 pictures": seconds}
    return figures


def as_table(figures: dict[str, Figures]) -> str:
    lines = ["| task | measure | value |", "|---|---|---|"]
    for task, measures in figures.items():
        for measure, value in measures.items():
            is_share = isinstance(value, float) and not measure.startswith("seconds")
            lines.append(f"| {task} | {measure} | {f'{100 * value:.1f} %' if is_share else value} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("llm", "vlm"))
    parser.add_argument("--backend", choices=("transformers", "vllm"), default="transformers")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    pool_table = PoolTable(load("pool"))
    measured: dict[str, Figures] = {}
    if arguments.only != "vlm":
        measured |= measure_llm(pool_table, arguments.backend)
    if arguments.only != "llm":
        measured |= measure_vlm(pool_table, arguments.backend)
    print(as_table(measured))
    if arguments.backend == "vllm":
        measured = {f"{task} (vLLM)": figures for task, figures in measured.items()}
    about = {
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": arguments.threads,
    }
    path = WEIGHTS / "quality_text.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(
        json.dumps({**kept, **{task: {**about, **part} for task, part in measured.items()}}, indent=1) + "\n"
    )
