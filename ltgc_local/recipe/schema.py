"""The recipe: every setting of a run, one frozen block a stage, in pipeline order.

Defaults live here and nowhere else. Each field's docstring says where its default comes from: [paper] LTGC's slides,
[released code], or "ours", because no training code was released and the slides leave most values unstated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        json_schema_extra={"expected": "a name (letters, digits, '-', '_' and '.', 100 at most)"},
    ),
]


class Block(BaseModel):
    """Base of the recipe's blocks: frozen, no unknown keys, no silent conversion (``"3"`` is not 3, 3.0 is not 3)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield (key, problem) for values that are right by themselves and wrong together."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_conflicts(self) -> Self:
        found = list(self.conflicts())
        if found:
            text = "; ".join(f"{key}: {problem}" for key, problem in found)
            raise PydanticCustomError("conflict", "{text}", {"text": text, "found": found})
        return self


class Data(Block):
    """Which images."""

    benchmark: Literal["fashion_mnist_lt"] = "fashion_mnist_lt"
    """The benchmark, one of ``ltgc_local.corpora``'s registry. Ours: the paper's benchmarks cannot be shipped."""
    root: Path = Field(examples=["../data/fashion_mnist_lt"])
    """Folder of the benchmark's files. Ours."""


class Models(Block):
    """Which local models take the four roles, and on what they run."""

    cards: Path = Field(examples=["../model_cards"])
    """Folder of the model cards, one Markdown file a model. Ours."""
    vlm: Name = Field(examples=["tiny-vlm"])
    """Card of the vision-language model that describes images (the paper: GPT-4V; ours is local)."""
    llm: Name = Field(examples=["tiny-llm"])
    """Card of the language model that extends and refines descriptions (the paper: GPT-4; ours is local)."""
    t2i: Name = Field(examples=["tiny-t2i"])
    """Card of the text-to-image model (the paper: DALL-E; ours is local)."""
    clip: Name = Field(examples=["tiny-clip"])
    """Card of the CLIP that scores images and is fine-tuned [paper: ViT-B/32]."""
    backend: Literal["auto", "transformers"] = "auto"
    """What runs vlm and llm; ``auto`` takes the best that is installed. Ours."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run; ``auto`` takes the GPU where there is one. Ours."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; ``auto`` takes the card's, else what suits the device. Ours."""
    quantization: Literal["none", "4bit", "8bit"] = "none"
    """bitsandbytes quantization of vlm and llm. Ours."""


class Describe(Block):
    """Existing descriptions: the vlm answers Prompt 1 for each image of a tail class."""

    tail_below: int = Field(default=100, ge=1)
    """Classes with fewer training images than this are tail classes [released code]."""
    max_images_per_class: int = Field(default=100, ge=1)
    """Images of a class that are described at most; bounds M_y. Ours: the paper describes all."""
    batch_size: int = Field(default=32, ge=1)
    """Images that the vlm sees at once. Ours."""
    max_new_tokens: int = Field(default=96, ge=8)
    """Tokens of a reply at most. Ours."""


class Extend(Block):
    """Extended descriptions: the llm answers Prompt 2 until the number check and the repetition check pass."""

    max_descriptions: int = Field(default=300, ge=1)
    """K_y, existing and extended together [paper: 100 iNaturalist 2018, 300 ImageNet-LT, 800 Places-LT]."""
    per_ask: int = Field(default=8, ge=1, le=100)
    """Descriptions that one Prompt 2 asks for. Ours."""
    context_descriptions: int = Field(default=12, ge=1)
    """Accepted sentences that are fed back in the next ask. Ours: the released code feeds back none of its own."""
    parallel_asks: int = Field(default=4, ge=1, le=64)
    """Prompt 2s of a class that are asked side by side, each under another sample of the list. Ours."""
    max_asks: int = Field(default=40, ge=1)
    """Prompt 2s a class at most; what is then missing is reported, not fatal. Ours."""
    repetition_batch: int = Field(default=12, ge=2)
    """Sentences in one Prompt 3 list. Ours."""
    repetition_similarity: float = Field(default=0.9, gt=0, le=1)
    """Jaccard similarity of words at or above which two sentences are near duplicates. Ours."""
    temperature: float = Field(default=0.9, ge=0, le=5)
    """Sampling temperature of Prompt 2's replies; 0 is greedy. Ours."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: share of the probability that is kept. Ours."""
    max_new_tokens: int = Field(default=320, ge=8)
    """Tokens of a reply at most. Ours."""
    max_clip_tokens: int = Field(default=75, ge=8, le=75)
    """CLIP tokens of a sentence at most; CLIP reads 77 with start and end. Ours: the released code checks nothing."""
    batch_size: int = Field(default=16, ge=1)
    """Conversations that the llm sees at once. Ours."""


class Draw(Block):
    """Images: the t2i model draws each extended description."""

    size_px: int = Field(default=1024, ge=8, le=4096, multiple_of=8)
    """Width and height that are drawn. Ours."""
    steps: int = Field(default=30, ge=1, le=1000)
    """Denoising steps. Ours."""
    guidance: float = Field(default=5.0, ge=0, le=50)
    """Classifier-free guidance; at 1 or less there is none. Ours."""
    batch_size: int = Field(default=8, ge=1)
    """Images drawn at once. Ours."""
    shard_size: int = Field(default=64, ge=1)
    """Images a file, which is what an interruption can lose. Ours."""
    negative_prompt: str = ""
    """What the guidance moves away from. Ours."""
    stored_size_px: int | None = Field(default=None, ge=8, le=4096)
    """Size at which images are stored; null stores what is drawn. Ours: give the originals' size when they are
    small, so that resampling is no shortcut feature."""
    stored_mode: Literal["RGB", "L"] = "RGB"
    """Colour or grey, as the originals are. Ours."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.stored_size_px is not None and self.stored_size_px > self.size_px:
            yield "stored_size_px", f"{self.stored_size_px} is larger than size_px, {self.size_px}; images only shrink"
        if self.negative_prompt and self.guidance <= 1:
            yield "negative_prompt", f"has no effect at guidance {self.guidance:g}; raise guidance above 1 or remove it"


class Assess(Block):
    """Iterative evaluation: score each image against C_y, refine its description by Prompt 5, draw again."""

    enabled: bool = True
    """False trains on every drawn image (Table 4's "no iterative evaluation") [paper: true]."""
    scorer: Literal["offset", "cosine", "percentile", "margin"] = "percentile"
    """What is compared: cosine + 0.5 (``offset``, what the released code does), the raw cosine, a percentile of the
    class's own training images against C_y, or C_y's rank among all classes (``margin``). The default is ours."""
    threshold: float = Field(default=0.8, ge=-1, le=2)
    """mu, for ``offset`` and ``cosine`` [paper: 0.8 ImageNet-LT and Places-LT, 0.6 iNaturalist 2018]."""
    percentile: float = Field(default=5.0, ge=0, le=100)
    """For ``percentile``: an image passes at or above this percentile of its class's training images. Ours."""
    margin_rank: int = Field(default=1, ge=1)
    """For ``margin``: C_y must be among this many closest of all classes' templates. Ours."""
    require_rank: int | None = Field(default=None, ge=1)
    """With any scorer: C_y must also be among this many closest templates; null asks nothing. Ours."""
    attempts: int = Field(default=3, ge=1, le=20)
    """Drawings of a description at most, the first included; after the last it is excluded [released code]."""
    refine_from: Literal["last", "original"] = "last"
    """Which text Prompt 5 refines: the last refined one, or the original (the released code). The default is ours."""
    batch_size: int = Field(default=64, ge=1)
    """Images that CLIP sees at once. Ours."""


class Train(Block):
    """Fine-tuning CLIP's vision tower with LoRA on mixed original and generated images."""

    control: bool = True
    """Also train the control: the same LoRA on the originals alone. Ours: the paper has none."""
    epochs: int = Field(default=10, ge=1)
    """Passes of len(D_o) pairs. Ours."""
    batch_size: int = Field(default=128, ge=2)
    """Pairs a step. Ours."""
    accumulation_steps: int = Field(default=1, ge=1)
    """Parts that a batch is cut into, one after the other through the tower: less memory, the same step. Ours."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Ours."""
    lr: float = Field(default=0.01, gt=0, le=10)
    """Peak learning rate, cosine decay to 0. Ours."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of sgd. Ours."""
    weight_decay: float = Field(default=5e-4, ge=0, le=10)
    """Ours."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear rise to ``lr``. Ours."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay a step of the trained weights' moving average, which is then what is validated and kept; 0 is off. Ours."""
    select: Literal["last", "best_val_all", "best_val_few", "best_val_groups"] = "last"
    """Which epoch's weights are kept, for every arm alike: the last, or the best on validation images by all, by few or
    by the mean of many, medium and few. Ours: on validation, so that settings made for one arm hurt no other."""
    lora_rank: int = Field(default=16, ge=1, le=1024)
    """Ours."""
    lora_alpha: float = Field(default=16.0, gt=0, le=4096)
    """The update is scaled by lora_alpha / lora_rank. Ours."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs that is dropped in training. Ours."""
    lora_targets: Literal["attention", "attention+mlp"] = "attention+mlp"
    """Which layers of every visual block are adapted. Ours."""
    head: Literal["text", "frozen_text"] = "text"
    """Cosine classifier that starts from the classes' text features, trained (``text``) or not. Ours."""
    head_scale: float = Field(default=25.0, gt=0, le=1000)
    """Factor of the cosine before the softmax. Ours."""
    head_lr: float | None = Field(default=None, gt=0, le=10)
    """Learning rate of the head; null takes ``lr``. Ours."""
    mixing: Literal["balance_mix", "mixup", "union", "none"] = "balance_mix"
    """BalanceMix; Mixup of pairs of originals and generated as one set; that set unmixed (the paper compares them); or
    no generated images [paper: BalanceMix]."""
    mix_form: Literal["scalar", "mask"] = "scalar"
    """A pair is mixed pixel by pixel, or a rectangle of share 1 - lam is the second image's (CutMix). Ours: the paper's
    bold 1 allows both."""
    mix_alpha: float = Field(default=1.0, gt=0, le=100)
    """lam ~ Beta(mix_alpha, mix_beta) a pair; lam is the original's share. Ours: the paper does not state lam."""
    mix_beta: float | None = Field(default=None, gt=0, le=100)
    """Null takes ``mix_alpha``. D_g's share is mix_beta / (mix_alpha + mix_beta): 9 and 1 give 0.1. Ours."""
    real_epochs: int = Field(default=0, ge=0)
    """How many of ``epochs``, the last ones, train on originals only. Ours."""
    last_layer_epochs: int = Field(default=0, ge=0)
    """How many of ``real_epochs``, the last ones, train the head alone. Ours."""
    loss: Literal["cross_entropy", "logit_adjustment", "balanced_softmax"] = "cross_entropy"
    """Soft-label cross-entropy; or with the scaled log of ``prior`` added to the logits (Menon et al. 2021); or with
    the log of the class counts added (Ren et al. 2020: as ``logit_adjustment`` with ``prior: counts``). Ours."""
    prior: Literal["effective", "counts"] = "effective"
    """Of ``logit_adjustment``: what the batches draw, q(c) = E[lam] / C + (1 - E[lam]) N_c / sum(N) for BalanceMix; or
    the counts of the arm's images however they are drawn, which is right with ``sampler: instance``. Ours."""
    prior_scale: float = Field(default=1.0, ge=0, le=10)
    """Of ``logit_adjustment``: factor of the log prior; less than 1 leaves the tail some advantage. Ours."""
    sampler: Literal["balanced", "instance"] = "balanced"
    """How the control, ``union`` and ``mixup`` draw images: a class uniformly, then its images; or every image once.
    Ours."""
    augment: Literal["none", "flip", "flip_crop", "resized_crop"] = "flip"
    """Random changes of training images: flips, with shifts by an eighth, or with crops of any size and shape (for
    towers of 224 px). Ours."""
    crop_scale: float = Field(default=0.08, gt=0, le=1)
    """Of ``resized_crop``: the smallest share of the image's area. Ours: torchvision's default."""
    blur_px: float = Field(default=0.0, ge=0, le=20)
    """Largest standard deviation of a random blur of original and generated images alike, in pixels of the tower's
    input, so that sharpness does not tell them apart. Ours."""
    noise: float = Field(default=0.0, ge=0, le=1)
    """Largest standard deviation of random noise on both, of the range from black to white. Ours."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the forward pass under autocast. Ours."""
    gradient_checkpointing: bool = False
    """Recompute each block's activations in the backward pass: less memory, about a third slower. Ours."""
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """Minutes between checkpoints, from which a killed training goes on exactly; 0 writes one a step. Ours."""
    in_memory_mib: int = Field(default=2048, ge=0)
    """Decoded images of a split are kept in memory up to this many MiB, else in a file in the run directory. Ours."""
    decode_workers: int = Field(default=0, ge=0, le=256)
    """Processes that decode into that file; 1 decodes in the step's own, 0 takes one a CPU. Ours."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.head == "frozen_text" and self.head_lr is not None:
            yield "head_lr", "has no effect on head 'frozen_text'; remove it or write 'head: text'"
        if self.mixing == "none" and self.control:
            yield "mixing", "'none' trains the control twice; write 'control: false' or another mixing"
        if self.real_epochs >= self.epochs:
            yield (
                "real_epochs",
                f"{self.real_epochs} of {self.epochs} epochs on originals leave none for generated images; "
                f"write at most {self.epochs - 1}",
            )
        if self.accumulation_steps > self.batch_size:
            yield "accumulation_steps", f"{self.accumulation_steps} parts of {self.batch_size} pairs; write fewer"
        if self.last_layer_epochs > self.real_epochs:
            yield (
                "last_layer_epochs",
                f"{self.last_layer_epochs} is more than real_epochs, {self.real_epochs}; the head trains on originals",
            )
        if self.last_layer_epochs and self.head == "frozen_text":
            yield "last_layer_epochs", "head 'frozen_text' does not train; remove it or write 'head: text'"
        if self.mix_form == "mask" and self.mixing in ("union", "none"):
            yield "mix_form", f"'mask' has no effect on mixing '{self.mixing}', which mixes nothing; remove it"
        if self.mix_beta is not None and self.mixing in ("union", "none"):
            yield "mix_beta", f"has no effect on mixing '{self.mixing}', which mixes nothing; remove it"
        if self.prior == "counts" and self.loss != "logit_adjustment":
            yield "prior", f"'counts' has no effect on loss '{self.loss}'; remove it or write 'loss: logit_adjustment'"
        if self.prior_scale != 1 and self.loss != "logit_adjustment":
            yield "prior_scale", f"has no effect on loss '{self.loss}'; remove it or write 'loss: logit_adjustment'"


class Evaluate(Block):
    """Accuracy on the test split: all, many, medium, few and each class."""

    batch_size: int = Field(default=256, ge=1)
    """Images at once. Ours."""
    zero_shot: bool = True
    """Also evaluate CLIP before any training. Ours: the paper takes these numbers from others."""


class Report(Block):
    """The HTML report."""

    images_per_class: int = Field(default=6, ge=1, le=100)
    """Images of each kind in a class's gallery. Ours."""


class Recipe(Block):
    """One run: the method, the seed and a block a stage."""

    name: Name = Field(examples=["my_run"])
    """Names the run directory, ``runs/<name>``. Ours."""
    method: Literal["ltgc"] = "ltgc"
    """The paper whose stages run. Ours."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Every item's seed is made from this and the item's name. Ours."""
    data: Data
    """Which images. Ours."""
    models: Models
    """Which models, and on what. Ours."""
    describe: Describe = Describe()
    """Prompt 1 [paper, step 1]."""
    extend: Extend = Extend()
    """Prompts 2 and 3 [paper, step 2]."""
    draw: Draw = Draw()
    """Text to image [paper, step 3]."""
    assess: Assess = Assess()
    """Prompts 4 and 5, detection and refinement [paper, step 3]."""
    train: Train = Train()
    """BalanceMix and LoRA [paper, step 4]."""
    evaluate: Evaluate = Evaluate()
    """Accuracies by group [paper, evaluation setup]."""
    report: Report = Report()
    """Ours."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        existing = min(self.describe.max_images_per_class, self.describe.tail_below - 1)
        extended = self.extend.max_asks * self.extend.per_ask
        if existing + extended < self.extend.max_descriptions:
            asks = -(-(self.extend.max_descriptions - existing) // self.extend.per_ask)
            yield (
                "extend.max_descriptions",
                f"{self.extend.max_descriptions} cannot be reached: at most {existing} existing and max_asks x per_ask "
                f"= {extended} extended; write 'max_asks: {asks}' or more",
            )

    def dump(self) -> dict[str, Any]:
        """Return the whole recipe, defaults included, as plain JSON values (paths absolute)."""
        return self.model_dump(mode="json")
