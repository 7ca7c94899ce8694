"""Blocks of the stages that make D_g, the generated images: describe, extend, draw, assess; and its leak guard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ltgc_local.recipe.block import Block, Conflict, StoredMode, StoredSize, stored_size_conflicts
from ltgc_local.recipe.markers import PAPER, RELEASED, Plans, Runtime, Shapes


class Describe(Block):
    """Existing descriptions: the vlm answers Prompt 1 for each image of a tail class."""

    max_images_per_class: int = Field(default=100, ge=1, le=1_000_000)
    """Most images of a class that are described; limits M_y. (The paper describes all.)"""
    batch_size: int = Field(default=256, ge=1, le=65_536)
    """Images handed to the vlm at once, which is what an interruption can lose; the backend forms its own batches of
    them. On vLLM, 32 ran at 0.7 times the speed, because a batch ends with its longest reply."""
    max_new_tokens: int = Field(default=96, ge=8, le=100_000)
    """Most tokens per reply. As JSON, a sentence of 75 CLIP tokens took at most 86. On vLLM the schema ends a JSON
    reply by itself."""
    reply_form: Literal["auto", "structured", "free"] = "auto"
    """What the vlm is asked for: JSON of features and scene, from which Template 1 is filled (``structured``); the
    sentence itself (``free``); or JSON if the backend can constrain decoding to a schema (``auto``)."""


class LtgcDescribe(Describe):
    """Existing descriptions in LTGC, where tail classes are those with few training images."""

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
    """Descriptions requested by one Prompt 2."""
    context_descriptions: int = Field(default=12, ge=1, le=10_000)
    """Existing and accepted sentences included in the next Prompt 2: a random sample of the class's list. (The paper
    shows the list; the released code only the existing sentences.)"""
    parallel_asks: int = Field(default=4, ge=1, le=64)
    """Prompt 2s of a class sent at the same time, each with a different sample of the list."""
    max_asks: int = Field(default=40, ge=1, le=100_000)
    """Most Prompt 2s per class; descriptions still missing then are reported and are not fatal."""
    max_useless_asks: int | None = Field(default=None, ge=1, le=100_000)
    """Give a class up after this many Prompt 2s in a row without a readable sentence, so that a model that cannot
    answer does not use up all asks of every class. null continues to ``max_asks``."""
    repetition_batch: int = Field(default=12, ge=2, le=10_000)
    """Sentences in one Prompt 3 list. It holds new sentences only, so a repeat of an existing sentence, or of one in
    another list, is left to ``repetition_similarity``, which compares each new sentence with all."""
    repetition_similarity: float = Field(default=0.875, gt=0, le=1)
    """Sentences are near duplicates if the words of their features and scenes have at least this Jaccard similarity. At
    the default, one of eight words may be missing from the other sentence."""
    repetition_confirm: float = Field(default=0.0, ge=0, le=1)
    """Remove a sentence that Prompt 3 leaves out only if it has at least this Jaccard similarity to one that stays; 0
    trusts the llm. A large llm recognises repeats in other words; a small one leaves out good sentences: 0.5 raised the
    miniature's precision from 59 to 92 %, while recall fell from 45 to 34 %."""
    temperature: float = Field(default=0.9, ge=0, le=5)
    """Sampling temperature of Prompt 2's replies; 0 is greedy."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: fraction of the probability that is kept."""
    max_new_tokens: int = Field(default=320, ge=8, le=100_000)
    """Most tokens per reply: room for ``per_ask`` sentences of 40 CLIP tokens, with or without JSON. The rest is cut
    off. On vLLM the schema ends a JSON reply by itself, so a higher limit costs nothing."""
    max_clip_tokens: int = Field(default=75, ge=8, le=75)
    """Most CLIP tokens per sentence; longer ones are cut. CLIP reads 77 including start and end. (The released code
    does not check.)"""
    batch_size: int = Field(default=16, ge=1, le=65_536)
    """Classes extended at the same time, which is what an interruption can lose."""
    reply_form: Literal["auto", "structured", "free"] = "auto"
    """What the llm is asked for by Prompts 2 and 5; as ``describe.reply_form``."""

    def conflicts(self) -> Iterator[Conflict]:
        if self.min_descriptions > self.max_descriptions:
            more = f"{self.min_descriptions} is more than max_descriptions, {self.max_descriptions}"
            yield "min_descriptions", f"{more}, so every run would stop; write a smaller number"

    def problem_of_number(self, existing: int) -> str:
        """Return why ``max_descriptions`` cannot be reached from this many existing descriptions, or ""."""
        extended = self.max_asks * self.per_ask
        if existing + extended >= self.max_descriptions:
            return ""
        asks = -(-(self.max_descriptions - existing) // self.per_ask)
        return (
            f"{self.max_descriptions} cannot be reached: at most {existing} existing and max_asks x per_ask "
            f"= {extended} extended; write 'max_asks: {asks}' or more"
        )


class LtgcExtend(Extend):
    """Extended descriptions in LTGC, which can also do without any."""

    source: Annotated[Literal["llm", "template"], PAPER] = "llm"
    """Where the list comes from: the llm, or ``template``, which repeats "A photo of the class [y]." N_y times without
    vlm and llm, for comparison with the paper's Figure 6."""


class Draw(Block):
    """Images: the t2i model generates one for each extended description."""

    size_px: int = Field(default=1024, ge=8, le=4096, multiple_of=8)
    """Width and height of the generated images."""
    steps: int = Field(default=30, ge=1, le=1000)
    """Denoising steps."""
    guidance: float = Field(default=5.0, ge=0, le=50)
    """Classifier-free guidance; 1 or less is none."""
    guidance_from: float | None = Field(default=None, ge=0, lt=1)
    """Fraction of the steps after which guidance starts; null starts at once. Steps without guidance cost half."""
    guidance_until: float | None = Field(default=None, gt=0, le=1)
    """Fraction of the steps after which guidance ends; null never ends it. 0.2 to 0.9 is roughly the interval that
    arXiv:2404.07724 finds best for SDXL."""
    cache_interval: int | None = Field(default=None, ge=2, le=10)
    """Compute the UNet's deep features only every this many steps (DeepCache, arXiv:2312.00858), which changes the
    images slightly; null computes them at every step."""
    compile: Annotated[Literal["none", "regional", "full"] | None, Runtime()] = None
    """What torch compiles: nothing, the repeated blocks of the UNet and the VAE decoder, or all of both, which takes
    minutes at the start; null is ``regional`` on a GPU and ``none`` on a CPU. Compiled batches have a fixed size and
    the last one is padded, so ``batch_size`` should divide ``shard_size``."""
    decoder: Literal["tiny"] | None = None
    """Decoder of the latents: null is the model's own VAE; ``tiny`` is the card's ``tiny_decoder``, such as TAESDXL,
    which is faster, needs less memory and only approximates fine detail."""
    batch_size: Annotated[int, Runtime()] = Field(default=8, ge=1, le=65_536)
    """Images generated at once. It is halved until the images fit in memory; the run remembers the result in its
    ``batch_sizes.json``."""
    shard_size: int = Field(default=64, ge=1, le=100_000)
    """Images per file, which is what an interruption can lose."""
    negative_prompt: str = ""
    """What guidance steers away from."""
    stored_size_px: StoredSize = None
    stored_mode: StoredMode = "RGB"
    clip_features: Annotated[bool, Runtime()] = False
    """Keep the clip in memory next to the t2i and encode images as they are generated, so that detection need not
    decode them again. Needs memory for both; false loads one model at a time."""
    img2img_strength: float | None = Field(default=None, gt=0, le=1)
    """Start from a training image of the class with this fraction of the steps' noise: near 0 the image stays as it is,
    1 is almost text to image. null starts from noise alone. (The paper has no img2img.)"""

    def conflicts(self) -> Iterator[Conflict]:
        yield from stored_size_conflicts(self.size_px, self.stored_size_px)
        if self.img2img_strength is not None and int(self.steps * self.img2img_strength) < 1:
            less = f"{self.img2img_strength:g} of {self.steps} steps is less than one step"
            yield "img2img_strength", f"{less}; raise it or steps"
        if self.guidance_from is not None and self.guidance_from >= (self.guidance_until or 1):
            yield "guidance_from", f"{self.guidance_from:g} is not before guidance_until, {self.guidance_until or 1:g}"
        if self.cache_interval is not None and self.compile == "full":
            yield "cache_interval", "cannot be combined with compile 'full'; write 'compile: regional' or remove it"
        for key in ("negative_prompt", "guidance_from", "guidance_until"):
            if self.guidance <= 1 and getattr(self, key) not in ("", None):
                yield key, f"has no effect at guidance {self.guidance:g}; raise guidance above 1 or remove it"


def _in_order(text: object) -> object:
    """Write scorers in the order of ``Scorer``: "margin + percentile" means "percentile+margin"."""
    names = [name.strip() for name in text.split("+")] if isinstance(text, str) else []
    order = ("offset", "cosine", "percentile", "margin")
    return "+".join(sorted(names, key=order.index)) if names and set(names) <= set(order) else text


#: Single scorers, and useful combinations; at most one of them compares S with an absolute threshold.
Scorer = Literal[
    "offset", "cosine", "percentile", "margin", "offset+percentile", "offset+margin", "cosine+percentile",
    "cosine+margin", "percentile+margin", "offset+percentile+margin", "cosine+percentile+margin",
]  # fmt: skip


class Assess(Block):
    """Iterative evaluation: score each image against C_y, refine its description by Prompt 5, generate again."""

    enabled: Annotated[bool, PAPER, Shapes("refine")] = True
    """False trains on every generated image (Table 4's "no iterative evaluation")."""
    scorer: Annotated[Scorer, BeforeValidator(_in_order)] = "percentile"
    """What an image must pass: cosine + 0.5 (``offset``, as in the released code), the raw cosine, a percentile of the
    class's own training images against C_y, C_y's rank among all classes (``margin``), or, joined by "+", several of
    them. All values are recorded in any case."""
    threshold: Annotated[float, PAPER] = Field(default=0.8, ge=-1, le=2)
    """mu, for ``offset`` and ``cosine``. The paper has 0.8 for ImageNet-LT and Places-LT, 0.6 for iNaturalist 2018."""
    percentile: float = Field(default=5.0, ge=0, le=100)
    """For ``percentile``: an image passes at or above this percentile (interpolated) of its class's training images. A
    class without training images uses ``margin_rank`` instead."""
    margin_rank: int | None = Field(default=1, ge=1, le=1_000_000)
    """For ``margin``: C_y must be among this many closest of all classes' templates; ties count in its favour. null
    takes each class's rank from its own training images: the smallest that (100 - ``percentile``) % of them reach. A
    number suits one data set only: among thousands of classes, even photographs seldom have C_y in the first three.
    Without training images, null is 1."""
    attempts: Annotated[int, RELEASED, Shapes("refine")] = Field(default=3, ge=1, le=20)
    """Most images generated for a description, including the first; if all miss, it is excluded."""
    refine_from: Annotated[Literal["last", "original"], Shapes("refine")] = "last"
    """Which text Prompt 5 refines: the last refined one, or the original as in the released code."""
    batch_size: Annotated[int, Runtime()] = Field(default=64, ge=1, le=65_536)
    """Images per CLIP batch."""

    def conflicts(self) -> Iterator[Conflict]:
        scorer = self.scorer.split("+")[0]
        most = {"offset": 1.5, "cosine": 1.0}.get(scorer)
        if most is not None and self.threshold > most:
            yield "threshold", f"{self.threshold:g} refuses every image: scorer {scorer!r} gives {most:g} at most"


class Leaks(Block):
    """The leak guard: equal and near-duplicate images among generated, training and test images are reported."""

    enabled: Annotated[bool, Plans()] = True
    """False leaves the leak guard out. (The paper has none.)"""
    hash_distance: Annotated[int, Shapes("compare")] = Field(default=4, ge=0, le=32)
    """Perceptual hashes of near duplicates differ in at most this many of 64 bits."""
    cosine: Annotated[float, Shapes("compare")] = Field(default=0.97, gt=0, le=1)
    """Embeddings by the clip of near duplicates have at least this cosine. The default is for published weights; a
    miniature's embeddings are closer together."""
    max_embedded: Annotated[int | None, Shapes("originals")] = Field(default=None, ge=1, le=100_000_000)
    """Most training images, and most test images, whose embeddings are compared: a seeded sample. null compares all.
    Pixels and hashes are always compared for all."""
    batch_size: Annotated[int, Runtime()] = Field(default=256, ge=1, le=65_536)
    """Images per CLIP batch."""
    shard_size: Annotated[int, Shapes("originals")] = Field(default=4096, ge=1, le=100_000)
    """Images per file of fingerprints, which is what an interruption can lose."""
