"""Blocks of the stages that make D_g, the generated images: describe, extend, draw, assess; and its leak guard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ltgc_local.recipe.block import Block
from ltgc_local.recipe.markers import PAPER, RELEASED, Plans, Runtime, Shapes


class Describe(Block):
    """Existing descriptions: the vlm answers Prompt 1 for each image of a tail class."""

    max_images_per_class: int = Field(default=100, ge=1, le=1_000_000)
    """Images of a class that are described at most; bounds M_y. (The paper describes all.)"""
    batch_size: int = Field(default=256, ge=1, le=65_536)
    """Images that are handed to the vlm at once, which is what an interruption can lose; the backend forms its own
    batches of them. On vLLM 32 were 0.7 times as fast, because a batch ends with its longest reply."""
    max_new_tokens: int = Field(default=96, ge=8, le=100_000)
    """Tokens of a reply at most. As JSON, a sentence of 75 CLIP tokens took 86 at most. On vLLM the schema ends a reply
    of JSON by itself."""
    reply_form: Literal["auto", "structured", "free"] = "auto"
    """What the vlm is asked for: JSON of features and scene that Template 1 is rendered from (``structured``), the
    sentence itself (``free``), or JSON where the backend can hold decoding to a schema (``auto``)."""


class LtgcDescribe(Describe):
    """The same in LTGC, where a number of training images divides tail classes from the others."""

    tail_below: Annotated[int, RELEASED] = Field(default=100, ge=1, le=10_000_000)
    """Classes with fewer training images than this are tail classes."""


class Extend(Block):
    """Extended descriptions: the llm answers Prompt 2 until the number check and the repetition check pass."""

    max_descriptions: Annotated[int, PAPER] = Field(default=300, ge=1, le=100_000)
    """K_y, existing and extended descriptions of a class together. The paper has 100 for iNaturalist 2018, 300 for
    ImageNet-LT and 800 for Places-LT."""
    min_descriptions: Annotated[int, Runtime()] = Field(default=0, ge=0, le=100_000)
    """Stop the run if a class ends with fewer descriptions than this, existing and extended together; 0 never stops it.
    (The paper does not say what happens to a class that the llm cannot describe.)"""
    per_ask: int = Field(default=8, ge=1, le=100)
    """Descriptions that one Prompt 2 asks for."""
    context_descriptions: int = Field(default=12, ge=1, le=10_000)
    """Accepted sentences that are fed back in the next ask. (The released code feeds back none of its own.)"""
    parallel_asks: int = Field(default=4, ge=1, le=64)
    """Prompt 2s of a class that are asked side by side, each under another sample of the list."""
    max_asks: int = Field(default=40, ge=1, le=100_000)
    """Prompt 2s per class at most; what is then missing is reported, not fatal."""
    max_useless_asks: int | None = Field(default=None, ge=1, le=100_000)
    """Prompt 2s of a class one after another without a readable sentence, after which it is given up: a model that
    cannot answer costs every class all its asks otherwise. null continues to ``max_asks``."""
    repetition_batch: int = Field(default=12, ge=2, le=10_000)
    """Sentences in one Prompt 3 list."""
    repetition_similarity: float = Field(default=0.875, gt=0, le=1)
    """Jaccard similarity of the words of features and scene at or above which two sentences are near duplicates. At the
    default, two sentences of eight words differ in one word that only one of them has."""
    repetition_confirm: float = Field(default=0.0, ge=0, le=1)
    """What Prompt 3 leaves out is removed only if it has at least this Jaccard similarity with a sentence that stays; 0
    believes the llm. A large llm sees repeats in other words. A small one leaves out good sentences: 0.5 raised the
    miniature's precision from 59 to 92 %, at a recall of 34 instead of 45 %."""
    temperature: float = Field(default=0.9, ge=0, le=5)
    """Sampling temperature of Prompt 2's replies; 0 is greedy."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: share of the probability that is kept."""
    max_new_tokens: int = Field(default=320, ge=8, le=100_000)
    """Tokens of a reply at most: ``per_ask`` sentences of 40 CLIP tokens each, which take about as many as JSON. What
    is beyond is cut off and lost. On vLLM the schema ends a reply of JSON by itself, so more costs nothing."""
    max_clip_tokens: int = Field(default=75, ge=8, le=75)
    """CLIP tokens of a sentence at most; what is longer is cut. CLIP reads 77 with start and end. (The released code
    checks nothing.)"""
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Classes that are extended side by side, which is what an interruption can lose."""
    reply_form: Literal["auto", "structured", "free"] = "auto"
    """What the llm is asked for by Prompts 2 and 5; as ``describe.reply_form``."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.min_descriptions > self.max_descriptions:
            yield (
                "min_descriptions",
                f"{self.min_descriptions} is more than max_descriptions, {self.max_descriptions}, so every run would "
                "stop; write a smaller number",
            )

    def problem_of_number(self, existing: int) -> str:
        """Return why ``max_descriptions`` cannot be reached from this many existing descriptions; mostly ""."""
        extended = self.max_asks * self.per_ask
        if existing + extended >= self.max_descriptions:
            return ""
        asks = -(-(self.max_descriptions - existing) // self.per_ask)
        return (
            f"{self.max_descriptions} cannot be reached: at most {existing} existing and max_asks x per_ask "
            f"= {extended} extended; write 'max_asks: {asks}' or more"
        )


class LtgcExtend(Extend):
    """The same in LTGC, which can also do without any description."""

    source: Annotated[Literal["llm", "template"], PAPER] = "llm"
    """Who writes the list: the llm, or nobody (``template``): "A photo of the class [y]." N_y times, no vlm and no llm,
    to compare with the paper's Figure 6."""


class Draw(Block):
    """Images: the t2i model draws each extended description."""

    size_px: int = Field(default=1024, ge=8, le=4096, multiple_of=8)
    """Width and height that are drawn."""
    steps: int = Field(default=30, ge=1, le=1000)
    """Denoising steps."""
    guidance: float = Field(default=5.0, ge=0, le=50)
    """Classifier-free guidance; at 1 or less there is none."""
    guidance_from: float | None = Field(default=None, ge=0, lt=1)
    """Share of the steps after which guidance starts; null: at once. The steps without cost half."""
    guidance_until: float | None = Field(default=None, gt=0, le=1)
    """Share of the steps after which guidance ends; null: never. 0.2 to 0.9 is about the interval of noise levels that
    arXiv:2404.07724 finds best for SDXL."""
    cache_interval: int | None = Field(default=None, ge=2, le=10)
    """Compute the UNet's deep features only every this many steps (DeepCache, arXiv:2312.00858), which changes the
    images somewhat; null computes them at each."""
    compile: Annotated[Literal["none", "regional", "full"] | None, Runtime()] = None
    """What torch compiles: nothing, the repeated blocks of the UNet and of the VAE's decoder, or all of both, which
    takes minutes at the start; null: ``regional`` on a GPU, ``none`` on a CPU. Compiled, every batch has one size: the
    last is filled up, so let ``batch_size`` divide ``shard_size``."""
    decoder: Literal["tiny"] | None = None
    """What turns latents into images: null is the model's own VAE, ``tiny`` the small one that its card names
    (``tiny_decoder``, such as TAESDXL): faster, less memory, fine detail redrawn rather than kept."""
    batch_size: Annotated[int, Runtime()] = Field(default=8, ge=1, le=65_536)
    """Images drawn at once. Where they do not fit into memory, half as many; what fits is remembered in the run's
    ``batch_sizes.json``."""
    shard_size: int = Field(default=64, ge=1, le=100_000)
    """Images per file, which is what an interruption can lose."""
    negative_prompt: str = ""
    """What the guidance moves away from."""
    stored_size_px: int | None = Field(default=None, ge=8, le=4096)
    """Size at which images are stored; null stores what is drawn. Give the originals' size when they are small, so that
    resampling is no shortcut feature."""
    stored_mode: Literal["RGB", "L"] = "RGB"
    """Colour or grey, as the originals are."""
    clip_features: Annotated[bool, Runtime()] = False
    """Keep the clip in memory together with the t2i: what is drawn is encoded, as it is stored, while it is there, and
    detection need not read and decode it again. It needs memory for both; false has one model at a time."""
    img2img_strength: float | None = Field(default=None, gt=0, le=1)
    """Start each image from a training image of its class, noised so far that this share of the steps is done: near 0
    the image stays, 1 is nearly text to image. null starts from noise alone. (The paper has no img2img.)"""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.stored_size_px is not None and self.stored_size_px > self.size_px:
            yield "stored_size_px", f"{self.stored_size_px} is larger than size_px, {self.size_px}; images only shrink"
        if self.img2img_strength is not None and int(self.steps * self.img2img_strength) < 1:
            yield (
                "img2img_strength",
                f"{self.img2img_strength:g} of {self.steps} steps is less than one step; raise it or steps",
            )
        if self.guidance_from is not None and self.guidance_from >= (self.guidance_until or 1):
            yield "guidance_from", f"{self.guidance_from:g} is not before guidance_until, {self.guidance_until or 1:g}"
        if self.cache_interval is not None and self.compile == "full":
            yield "cache_interval", "cannot be combined with compile 'full'; write 'compile: regional' or remove it"
        if self.guidance <= 1:
            for key in ("negative_prompt", "guidance_from", "guidance_until"):
                if getattr(self, key) not in ("", None):
                    yield key, f"has no effect at guidance {self.guidance:g}; raise guidance above 1 or remove it"


def _in_order(text: object) -> object:
    """Write scorers in the order of ``Scorer``: "margin + percentile" means "percentile+margin"."""
    names = [name.strip() for name in text.split("+")] if isinstance(text, str) else []
    order = ("offset", "cosine", "percentile", "margin")
    return "+".join(sorted(names, key=order.index)) if names and set(names) <= set(order) else text


#: Scorers by themselves, and those that together say more than one; S is compared with one absolute threshold at most.
Scorer = Literal[
    "offset", "cosine", "percentile", "margin", "offset+percentile", "offset+margin", "cosine+percentile",
    "cosine+margin", "percentile+margin", "offset+percentile+margin", "cosine+percentile+margin",
]  # fmt: skip


class Assess(Block):
    """Iterative evaluation: score each image against C_y, refine its description by Prompt 5, draw again."""

    enabled: Annotated[bool, PAPER, Shapes("refine")] = True
    """False trains on every drawn image (Table 4's "no iterative evaluation")."""
    scorer: Annotated[Scorer, BeforeValidator(_in_order)] = "percentile"
    """What an image must pass: cosine + 0.5 (``offset``, what the released code does), the raw cosine, a percentile of
    the class's own training images against C_y, C_y's rank among all classes (``margin``); with "+", each of several.
    The values of all are kept in any case."""
    threshold: Annotated[float, PAPER] = Field(default=0.8, ge=-1, le=2)
    """mu, for ``offset`` and ``cosine``. The paper has 0.8 for ImageNet-LT and Places-LT, 0.6 for iNaturalist 2018."""
    percentile: float = Field(default=5.0, ge=0, le=100)
    """For ``percentile``: an image passes at or above this percentile of its class's training images (linear between
    two of them). A class without any is judged by ``margin_rank`` instead."""
    margin_rank: int = Field(default=1, ge=1, le=1_000_000)
    """For ``margin``: C_y must be among this many closest of all classes' templates; ties count in its favour."""
    attempts: Annotated[int, RELEASED, Shapes("refine")] = Field(default=3, ge=1, le=20)
    """Attempts at a description at most, the first included; after the last it is excluded."""
    refine_from: Annotated[Literal["last", "original"], Shapes("refine")] = "last"
    """Which text Prompt 5 refines: the last refined one, or the original, as in the released code."""
    batch_size: Annotated[int, Runtime()] = Field(default=64, ge=1, le=65_536)
    """Images that CLIP sees at once."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        scorer = self.scorer.split("+")[0]
        most = {"offset": 1.5, "cosine": 1.0}.get(scorer)
        if most is not None and self.threshold > most:
            yield "threshold", f"{self.threshold:g} refuses every image: scorer {scorer!r} gives {most:g} at most"


class Leaks(Block):
    """The leak guard: equal and near-duplicate images among generated, training and test images are reported."""

    enabled: Annotated[bool, Plans()] = True
    """False leaves the leak guard out. (The paper compares nothing.)"""
    hash_distance: Annotated[int, Shapes("compare")] = Field(default=4, ge=0, le=32)
    """Bits of 64 in which perceptual hashes of near duplicates differ at most."""
    cosine: Annotated[float, Shapes("compare")] = Field(default=0.97, gt=0, le=1)
    """Cosine at or above which the clip's embeddings are those of near duplicates. The default is for published
    weights; a miniature's embeddings lie closer together."""
    max_embedded: Annotated[int | None, Shapes("originals")] = Field(default=None, ge=1, le=100_000_000)
    """Training images, and test images, whose embeddings are compared at most: a seeded sample; null compares all.
    Pixels and hashes are always compared of all."""
    batch_size: Annotated[int, Runtime()] = Field(default=256, ge=1, le=65_536)
    """Images that CLIP sees at once."""
    shard_size: Annotated[int, Shapes("originals")] = Field(default=4096, ge=1, le=100_000)
    """Images per file of fingerprints, which is what an interruption can lose."""
