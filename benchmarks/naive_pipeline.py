"""The generation half of the method as a script of stock calls, one item at a time; timed by ``benchmarks.pipeline``.

python -m benchmarks.naive_pipeline RUN

It describes the real images, extends the lists, draws the descriptions and scores the generated images of a finished
run, with the libraries' documented calls and the same models, and prints a JSON of step -> seconds, loading apart.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.sdxl_weights import load_miniature
from benchmarks.text_models import MINIATURES, as_template, generate_one, load_llm, load_vlm, one_turn
from ltgc_local.datasets import open_corpus
from ltgc_local.methods.ltgc.prompts import class_sentence, fill_describe, fill_extend
from ltgc_local.methods.ltgc.replies.parsing import parse_descriptions
from ltgc_local.records import Description
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.provenance import read_run_recipe


def main(root: Path) -> None:
    run, recipe = RunDirectory(root), read_run_recipe(root)
    corpus = open_corpus(recipe.data)
    names, facts = corpus.class_names, dict[str, dict[str, float]]()
    existing = run.records("describe", "descriptions", Description)
    wanted = run.records("extend", "descriptions", Description)

    def timed(step: str, load: Callable[[], Any], work: Callable[[Any], int]) -> None:
        start = time.perf_counter()
        loaded = load()
        done = time.perf_counter()
        items = work(loaded)
        facts[step] = {"load": done - start, "work": time.perf_counter() - done, "items": items}

    def describe(vlm: tuple[Any, Any]) -> int:
        model, processor = vlm
        rows = {key: row for row, key in enumerate(corpus.train.keys)}
        for one in existing:
            image = corpus.train.image(rows[one.image_key]).convert("RGB")
            content = [{"type": "image"}, {"type": "text", "text": fill_describe(names[one.class_id])}]
            text = as_template(processor, [{"role": "user", "content": content}])  # type: ignore[typeddict-item]
            inputs = processor(text=[text], images=[image], return_tensors="pt")
            processor.decode(generate_one(model, inputs, recipe.describe.max_new_tokens), skip_special_tokens=True)
        return len(existing)

    def extend(llm: tuple[Any, Any]) -> int:
        model, tokenizer = llm
        number = 0
        for class_id in sorted({one.class_id for one in wanted}):
            known: list[str] = [one.text for one in existing if one.class_id == class_id]
            target, asks = sum(one.class_id == class_id for one in wanted), 0
            found: list[str] = []
            while len(found) < target and asks < recipe.extend.max_asks:
                text = as_template(tokenizer, one_turn(fill_extend(names[class_id], (known + found)[-12:], 8)))
                inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(model.device)
                torch.manual_seed(asks)
                most = recipe.extend.max_new_tokens
                with torch.inference_mode():
                    tokens = model.generate(**inputs, max_new_tokens=most, do_sample=True, temperature=0.9, top_p=0.95)
                reply = tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
                found += [s for s in parse_descriptions(reply, names[class_id]).sentences if s not in found]
                asks += 1
            number += min(len(found), target)
        return number

    pictures: list[Any] = []

    def draw(pipeline: Any) -> int:
        size = recipe.draw.size_px
        for i, one in enumerate(wanted):
            generator = torch.Generator("cpu").manual_seed(i)
            pictures.append(
                pipeline(
                    one.text, num_inference_steps=recipe.draw.steps, guidance_scale=recipe.draw.guidance,
                    height=size, width=size, generator=generator,
                ).images[0]
            )  # fmt: skip
        return len(pictures)

    def score(clip: tuple[Any, Any, Any]) -> int:
        model, preprocess, tokenizer = clip
        with torch.inference_mode():
            for one, picture in zip(wanted, pictures, strict=True):
                image = model.encode_image(preprocess(picture).unsqueeze(0))
                text = model.encode_text(tokenizer([class_sentence(names[one.class_id])]))
                torch.cosine_similarity(image, text)
        return len(pictures)

    timed("describe", lambda: load_vlm("cpu"), describe)
    timed("extend", lambda: load_llm("cpu"), extend)
    timed("draw", load_miniature, draw)
    timed("assess/0/detect", load_clip, score)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"steps": facts, "peak_mib": peak}))


def load_clip() -> tuple[Any, Any, Any]:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{MINIATURES / 'clip'}")
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{MINIATURES / 'clip'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
