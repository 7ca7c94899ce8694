"""The recipe: every setting of a run, one frozen block a stage, in pipeline order.

Defaults live here and nowhere else. Each field's docstring says where its default comes from: [paper] LTGC's slides,
[released code], or "ours", because no training code was released and the slides leave most values unstated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
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
    """Which images, by which lists, with which class names."""

    benchmark: Literal[
        "fashion_mnist_lt",
        "imagenet_lt",
        "places_lt",
        "inaturalist18",
        "cifar10_lt",
        "cifar100_lt",
        "image_folder",
        "list_files",
        "csv",
        "parquet",
    ] = "fashion_mnist_lt"
    """The benchmark, or the form of your own data. Ours: the paper's benchmarks cannot be shipped."""
    root: Path = Field(examples=["../data/fashion_mnist_lt"])
    """Folder of the images; see data/README.md for each benchmark's tree. Ours."""
    lists: Path | None = Field(default=None, examples=["../data/data_txt/ImageNet_LT"])
    """Folder of the lists or tables that name images and labels; null looks in ``root``. Ours."""
    class_names: Path | None = Field(default=None, json_schema_extra={"expected": "the path of a text file"})
    """Text file of class names, one a line by class id; null takes the benchmark's own. Ours: the released code has two
    lists that disagree."""
    imbalance: float = Field(default=100.0, ge=1, le=10_000)
    """CIFAR: training images of the largest class over those of the smallest. Ours: the field's usual factor."""
    largest_class: int | None = Field(default=None, ge=2)
    """CIFAR: training images of the largest class; null takes all official ones, as the field does. Ours."""
    val_per_class: int = Field(default=50, ge=1)
    """CIFAR: validation images a class at most, of the official training images that the long tail leaves. Ours."""
    split_seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """CIFAR: which images the long tail keeps; not the run's seed, so that runs share their data. Ours."""
    image_column: str = Field(default="image", min_length=1)
    """csv: the column of paths; parquet: of images. Ours: what ``datasets`` writes."""
    label_column: str = Field(default="label", min_length=1)
    """csv and parquet: the column of labels. Ours: what ``datasets`` writes."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for key, benchmarks in DATA_KEYS.items():
            default = type(self).model_fields[key].default
            if self.benchmark not in benchmarks and getattr(self, key) != default:
                yield key, f"has no effect on {self.benchmark}; only {', '.join(benchmarks)} use it: remove it"


_CIFAR = ("cifar10_lt", "cifar100_lt")
_LISTED = ("imagenet_lt", "places_lt", "inaturalist18", "list_files", "csv")
#: Key of ``data`` -> the benchmarks that it has an effect on, where that is not all of them.
DATA_KEYS = {
    "lists": _LISTED,
    "class_names": (*_LISTED, *_CIFAR, "image_folder", "parquet"),
    "imbalance": _CIFAR,
    "largest_class": _CIFAR,
    "val_per_class": _CIFAR,
    "split_seed": _CIFAR,
    "image_column": ("csv", "parquet"),
    "label_column": ("csv", "parquet"),
}


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
    backend: Literal["auto", "vllm", "transformers"] = "auto"
    """What runs vlm and llm; ``auto`` takes vLLM where it is installed for GPUs, else transformers. Ours."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run; ``auto`` takes the GPU where there is one. Ours."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; ``auto`` takes the card's, else what suits the device. Ours."""
    quantization: Literal["none", "4bit", "8bit"] = "none"
    """bitsandbytes quantization of vlm and llm by transformers; vLLM reads AWQ, GPTQ and FP8 folders as they are.
    Ours."""
    max_model_len: int = Field(default=4096, ge=64)
    """Tokens of prompt and reply that vLLM keeps room for, or what the model can do if that is less. Ours."""
    max_pixels: int = Field(default=1024 * 1024, ge=64)
    """Pixels of a picture that the vlm sees at most; a larger one is shrunk. Ours."""
    tensor_parallel: int = Field(default=1, ge=1, le=64)
    """GPUs that vLLM spreads one vlm or llm over. Ours."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.backend == "vllm" and self.quantization != "none":
            yield (
                "quantization",
                f"'{self.quantization}' is bitsandbytes, which vLLM does not load; write 'backend: transformers', or "
                "name the card of an AWQ, GPTQ or FP8 folder",
            )
        if self.backend == "transformers" and self.tensor_parallel > 1:
            yield "tensor_parallel", f"{self.tensor_parallel} has no effect on backend 'transformers'; write 1"


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
    reply_form: Literal["auto", "structured", "free"] = "auto"
    """What the vlm is asked for: JSON of features and scene that Template 1 is rendered from (``structured``), the
    sentence itself (``free``), or JSON where the backend can hold decoding to a schema (``auto``). Ours."""


class Extend(Block):
    """Extended descriptions: the llm answers Prompt 2 until the number check and the repetition check pass."""

    source: Literal["llm", "template"] = "llm"
    """Who writes the list: the llm [paper], or nobody (``template``): "A photo of the class [y]." N_y times, no vlm and
    no llm, the paper's Figure 6 to compare with."""
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
    repetition_similarity: float = Field(default=0.875, gt=0, le=1)
    """Jaccard similarity of the words of features and scene at or above which two sentences are near duplicates.
    Ours: two sentences of eight words differ in one word that only one of them has."""
    repetition_confirm: float = Field(default=0.0, ge=0, le=1)
    """What Prompt 3 leaves out is removed only if it has at least this Jaccard similarity with a sentence that stays;
    0 believes the llm. Ours: a large llm sees repeats in other words; a small one leaves out good sentences, and 0.5
    raised the miniature's precision from 59 to 92 % at a recall of 34 instead of 45 %."""
    temperature: float = Field(default=0.9, ge=0, le=5)
    """Sampling temperature of Prompt 2's replies; 0 is greedy. Ours."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: share of the probability that is kept. Ours."""
    max_new_tokens: int = Field(default=320, ge=8)
    """Tokens of a reply at most. Ours."""
    max_clip_tokens: int = Field(default=75, ge=8, le=75)
    """CLIP tokens of a sentence at most, what is longer is cut; CLIP reads 77 with start and end. Ours: the released
    code checks nothing."""
    batch_size: int = Field(default=16, ge=1)
    """Classes that are extended side by side, which is what an interruption can lose. Ours."""
    reply_form: Literal["auto", "structured", "free"] = "auto"
    """What the llm is asked for by Prompts 2 and 5; as ``describe.reply_form``. Ours."""


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
    img2img_strength: float | None = Field(default=None, gt=0, le=1)
    """Start each image from a training image of its class, noised so far that this share of the steps is done: near 0
    the image stays, 1 is nearly text to image. null starts from noise alone. Ours: the paper has no img2img."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.stored_size_px is not None and self.stored_size_px > self.size_px:
            yield "stored_size_px", f"{self.stored_size_px} is larger than size_px, {self.size_px}; images only shrink"
        if self.img2img_strength is not None and int(self.steps * self.img2img_strength) < 1:
            yield (
                "img2img_strength",
                f"{self.img2img_strength:g} of {self.steps} steps is less than one step; raise it or steps",
            )
        if self.negative_prompt and self.guidance <= 1:
            yield "negative_prompt", f"has no effect at guidance {self.guidance:g}; raise guidance above 1 or remove it"


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

    enabled: bool = True
    """False trains on every drawn image (Table 4's "no iterative evaluation") [paper: true]."""
    scorer: Annotated[Scorer, BeforeValidator(_in_order)] = "percentile"
    """What an image must pass: cosine + 0.5 (``offset``, what the released code does), the raw cosine, a percentile of
    the class's own training images against C_y, C_y's rank among all classes (``margin``); with "+", each of several.
    The values of all are kept in any case. The default is ours."""
    threshold: float = Field(default=0.8, ge=-1, le=2)
    """mu, for ``offset`` and ``cosine`` [paper: 0.8 ImageNet-LT and Places-LT, 0.6 iNaturalist 2018]."""
    percentile: float = Field(default=5.0, ge=0, le=100)
    """For ``percentile``: an image passes at or above this percentile of its class's training images (linear between
    two of them). A class without any is judged by ``margin_rank`` instead. Ours."""
    margin_rank: int = Field(default=1, ge=1)
    """For ``margin``: C_y must be among this many closest of all classes' templates; ties count in its favour. Ours."""
    attempts: int = Field(default=3, ge=1, le=20)
    """Drawings of a description at most, the first included; after the last it is excluded [released code]."""
    refine_from: Literal["last", "original"] = "last"
    """Which text Prompt 5 refines: the last refined one, or the original (the released code). The default is ours."""
    batch_size: int = Field(default=64, ge=1)
    """Images that CLIP sees at once. Ours."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        scorer = self.scorer.split("+")[0]
        most = {"offset": 1.5, "cosine": 1.0}.get(scorer)
        if most is not None and self.threshold > most:
            yield "threshold", f"{self.threshold:g} refuses every image: scorer {scorer!r} gives {most:g} at most"


class Leaks(Block):
    """The leak guard: equal and near-duplicate images among generated, training and test images are reported."""

    enabled: bool = True
    """False leaves it out. Ours: the paper compares nothing."""
    hash_distance: int = Field(default=4, ge=0, le=32)
    """Bits of 64 in which perceptual hashes of near duplicates differ at most. Ours."""
    cosine: float = Field(default=0.97, gt=0, le=1)
    """Cosine at or above which the clip's embeddings are those of near duplicates. Ours: for published weights; a
    miniature's embeddings lie closer together."""
    max_embedded: int | None = Field(default=None, ge=1)
    """Training images, and test images, whose embeddings are compared at most: a seeded sample; null compares all.
    Pixels and hashes are always compared of all. Ours."""
    batch_size: int = Field(default=256, ge=1)
    """Images that CLIP sees at once. Ours."""
    shard_size: int = Field(default=4096, ge=1)
    """Images a file of fingerprints, which is what an interruption can lose. Ours."""


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
    vlm_classifier: bool = False
    """Also ask the vlm which class each test image shows [paper, Table 3]."""
    vlm_images_per_class: int = Field(default=20, ge=1)
    """Test images of a class that the vlm is asked about at most, drawn by seed. Ours: a reply is slow."""
    vlm_names_in_prompt: int = Field(default=100, ge=0)
    """With at most this many classes the prompt lists their names; with more the vlm answers freely, and CLIP's text
    tower finds the class name nearest to an answer that names none. Ours: the paper does not say how it asked."""
    five_crop: bool = False
    """Also average the logits of five crops (corners and centre) of the enlarged image, as key ``five_crop`` of each
    arm. Ours: LIFT gains 0.7 to 1.3 points by it."""
    five_crop_margin: float = Field(default=0.107, gt=0, le=1)
    """By what share of the input size the image is enlarged before cropping. Ours: LIFT's 24 pixels at 224."""
    zero_shot_weight: float | None = Field(default=None, gt=0, lt=1)
    """Also ensemble each trained arm with zero-shot CLIP, whose log-probability counts this much, as key
    ``zero_shot_ensemble``; null does not. Choose it on validation images, never on test images. Ours."""
    zero_shot_prior: Literal["train", "none"] = "train"
    """The class prior that is taken off zero-shot CLIP in that ensemble: what it predicts on average on the training
    images, every class counting the same (generalised logit adjustment); or none. Ours."""
    interval_level: float = Field(default=0.95, gt=0.5, lt=1)
    """Level of the confidence intervals. Ours: the paper prints none."""
    resamples: int = Field(default=2000, ge=100, le=100_000)
    """Bootstrap resamples of the test images. Ours."""
    store_logits: bool = False
    """Also store every arm's logits of every test image, 2 bytes each. Ours: ImageNet-LT's are 100 MB an arm."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.zero_shot_weight is not None and not self.zero_shot:
            yield "zero_shot_weight", "needs zero-shot CLIP; write 'zero_shot: true'"


class Report(Block):
    """The HTML report."""

    images_per_class: int = Field(default=6, ge=1, le=100)
    """Images of each kind in a class's gallery. Ours."""
    leak_pairs: int = Field(default=6, ge=1, le=100)
    """Nearest pairs of images that the leak guard's section shows, of each two groups. Ours."""


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
    leaks: Leaks = Leaks()
    """Duplicates among generated, training and test images. Ours."""
    train: Train = Train()
    """BalanceMix and LoRA [paper, step 4]."""
    evaluate: Evaluate = Evaluate()
    """Accuracies by group [paper, evaluation setup]."""
    report: Report = Report()
    """Ours."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        existing = min(self.describe.max_images_per_class, self.describe.tail_below - 1)
        extended = self.extend.max_asks * self.extend.per_ask
        if self.extend.source == "llm" and existing + extended < self.extend.max_descriptions:
            asks = -(-(self.extend.max_descriptions - existing) // self.extend.per_ask)
            yield (
                "extend.max_descriptions",
                f"{self.extend.max_descriptions} cannot be reached: at most {existing} existing and max_asks x per_ask "
                f"= {extended} extended; write 'max_asks: {asks}' or more",
            )

    def dump(self) -> dict[str, Any]:
        """Return the whole recipe, defaults included, as plain JSON values (paths absolute)."""
        return self.model_dump(mode="json")
