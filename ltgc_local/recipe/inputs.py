"""Blocks for what a run starts from: the images and the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ltgc_local.recipe.block import Block, Conflict, Name
from ltgc_local.recipe.markers import PAPER, Digested, Loads, Runtime


class Data(Block):
    """Which images, by which lists, with which class names."""

    benchmark: Literal[
        "fashion_mnist_lt", "imagenet_lt", "places_lt", "inaturalist18", "cifar10_lt", "cifar100_lt", "dior", "fgsc23",
        "dota", "anno_lists", "image_folder", "list_files", "csv", "parquet", "datasets",
    ] = "fashion_mnist_lt"  # fmt: skip
    """The benchmark, or the form of your own data. The default ships with the program."""
    root: Annotated[Path, Digested()] = Field(examples=["../data/fashion_mnist_lt"])
    """Folder of the images; see data/README.md for each benchmark's tree."""
    lists: Annotated[Path | None, Digested()] = Field(default=None, examples=["../data/data_txt/ImageNet_LT"])
    """Folder of the lists or tables of images and labels; null looks in ``root``."""
    class_names: Annotated[Path | None, Digested()] = Field(
        default=None, json_schema_extra={"expected": "the path of a text file"}
    )
    """Text file of class names, one per line in the order of class ids; null takes the benchmark's own. (The released
    code has two lists that disagree.)"""
    imbalance: Annotated[float, Digested()] = Field(default=100.0, ge=1, le=10_000)
    """CIFAR: ratio of the largest class's training images to the smallest class's. The default is the usual one."""
    largest_class: Annotated[int | None, Digested()] = Field(default=None, ge=2, le=1_000_000)
    """CIFAR: training images of the largest class; null takes all official ones, as is usual."""
    val_per_class: Annotated[int, Digested()] = Field(default=50, ge=1, le=1_000_000)
    """CIFAR: most validation images per class, from the official training images that the long tail does not use."""
    split_seed: Annotated[int, Digested()] = Field(default=0, ge=0, le=2**63 - 1)
    """Seed of CIFAR's long tail and of the crops' validation split; separate from the run's seed, so that runs share
    their data."""
    val_percent: Annotated[float, Digested()] = Field(default=5.0, ge=0, lt=100)
    """Crops (DIOR, FGSC-23, DOTA, anno_lists): percentage of each class's training images held out for validation. 0
    trains on all of them, as the released code does, so no epoch can be chosen by validation."""
    image_column: str = Field(default="image", min_length=1)
    """Column of image paths (csv) or images (parquet, datasets). The default is what ``datasets`` writes."""
    label_column: Annotated[str, Digested()] = Field(default="label", min_length=1)
    """Column of labels (csv, parquet, datasets). The default is what ``datasets`` writes."""
    max_pixels: int = Field(default=64_000_000, ge=1, le=178_956_970)
    """Most pixels per image; a larger one is refused after reading its header, because it could fill the memory. The
    upper limit is Pillow's."""
    alpha_background: str = Field(
        default="white",
        pattern=r"^(white|black|grey|#[0-9a-fA-F]{6})$",
        json_schema_extra={"expected": "white, black, grey or a colour such as '#ffcc00' (in quotes)"},
    )
    """Background of images with alpha: white, black, grey or #rrggbb."""

    @property
    def pixels_by(self) -> str:
        """The settings that decide an image's pixels, for the names of files of decoded images."""
        return "\0".join((self.image_column, str(self.max_pixels), self.alpha_background))

    def conflicts(self) -> Iterator[Conflict]:
        for key, benchmarks in DATA_KEYS.items():
            default = type(self).model_fields[key].default
            if self.benchmark not in benchmarks and getattr(self, key) != default:
                yield key, f"has no effect on {self.benchmark}; only {', '.join(benchmarks)} use it: remove it"


_CIFAR = ("cifar10_lt", "cifar100_lt")
_CROPS = ("dior", "fgsc23", "dota", "anno_lists")
_LISTED = ("imagenet_lt", "places_lt", "inaturalist18", *_CROPS, "list_files", "csv")
_ENCODED = (*_LISTED, "fashion_mnist_lt", "image_folder", "parquet", "datasets")
#: Key of ``data`` -> the benchmarks that use it, if not all do.
DATA_KEYS = {
    "lists": _LISTED,
    "class_names": (*_LISTED, *_CIFAR, "image_folder", "parquet", "datasets"),
    "imbalance": _CIFAR,
    "largest_class": _CIFAR,
    "val_per_class": _CIFAR,
    "split_seed": (*_CIFAR, *_CROPS),
    "val_percent": _CROPS,
    "image_column": ("csv", "parquet", "datasets"),
    "label_column": ("csv", "parquet", "datasets"),
    "max_pixels": _ENCODED,
    "alpha_background": _ENCODED,
}


class Models(Block):
    """Which local models fill the method's roles, and what they run on."""

    cards: Annotated[Path, Digested()] = Field(examples=["../model_cards"])
    """Folder of the model cards, one Markdown file per model."""
    clip: Annotated[Name, PAPER] = Field(examples=["tiny-clip"])
    """Card of the CLIP that scores images and, in LTGC, is fine-tuned. The paper has ViT-B/32."""
    device: Annotated[Literal["auto", "cpu", "cuda"], Loads("vlm", "llm", "t2i", "clip", "backbone")] = "auto"
    """Where models run; ``auto`` takes a GPU if there is one."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Loads("vlm", "llm", "t2i", "clip")] = "auto"
    """Number format of the weights; ``auto`` takes the card's, or else what suits the device."""
    decode_threads: Annotated[int, Runtime()] = Field(default=0, ge=0, le=256)
    """Threads per process that decode images for clip; 0 takes one per CPU."""
    threads: Annotated[int, Loads("vlm", "llm", "t2i", "clip", "backbone")] = Field(default=1, ge=1, le=1024)
    """CPU threads that a process computes with. Sums are added in another order with another number, so results differ
    by rounding; because the recipe sets it, they are the same on every machine. Raise it for large models on a CPU."""
    workers: Annotated[Annotated[int, Field(ge=1, le=1024)] | Literal["auto"], Runtime()] = "auto"
    """Most processes that share the chunks of a step, each with its own copy of the model on its own GPU (or
    ``tensor_parallel`` GPUs); ``auto`` is one per GPU, or on a CPU as many as the cores have room for. Results do not
    depend on it."""
    training_processes: int = Field(default=1, ge=1, le=1024)
    """Processes that share every batch of a training, each on its own GPU. LTGC's results change only by rounding; in
    TGN, batch statistics and augmentation are per process."""


class TextModels(Models):
    """Also the two models that write descriptions."""

    vlm: Annotated[Name, PAPER] = Field(examples=["tiny-vlm"])
    """Card of the vision-language model that describes images. The paper has GPT-4V; a card's model is local."""
    llm: Annotated[Name, PAPER] = Field(examples=["tiny-llm"])
    """Card of the language model that extends and refines descriptions. The paper has GPT-4; a card's model is
    local."""
    backend: Literal["auto", "vllm", "transformers"] = "auto"
    """What runs vlm and llm; ``auto`` takes vLLM if it is installed for GPUs, else transformers."""
    quantization: Annotated[Literal["none", "4bit", "8bit"], Loads("vlm", "llm")] = "none"
    """bitsandbytes quantization of vlm and llm by transformers; vLLM reads AWQ, GPTQ and FP8 folders as they are."""
    max_model_len: Annotated[int, Loads("vlm", "llm")] = Field(default=4096, ge=64, le=10_000_000)
    """Tokens of prompt and reply together that vLLM makes room for, within the model's own limit."""
    max_pixels: Annotated[int, Loads("vlm")] = Field(default=1024 * 1024, ge=64, le=100_000_000)
    """Most pixels of an image that the vlm sees; a larger one is shrunk."""
    tensor_parallel: int | None = Field(default=None, ge=1, le=64)
    """GPUs that share one vlm or llm: vLLM splits every layer, transformers distributes whole layers; null takes the
    card's number, or else 1."""

    def conflicts(self) -> Iterator[Conflict]:
        if self.backend == "vllm" and self.quantization != "none":
            remedy = "write 'backend: transformers', or name the card of an AWQ, GPTQ or FP8 folder"
            yield "quantization", f"'{self.quantization}' is bitsandbytes, which vLLM does not load; {remedy}"


class T2iModels(Models):
    """Also the text-to-image model."""

    t2i: Annotated[Name, PAPER] = Field(examples=["tiny-t2i"])
    """Card of the text-to-image model. The paper has DALL-E; a card's model is local."""
    text_encoders: Annotated[Literal["8bit"] | None, Loads("t2i")] = None
    """bitsandbytes quantization of the t2i's two text encoders: half the memory, slightly different images. null does
    not quantize. In either case they are on the GPU only while prompts are encoded."""
    unet: Annotated[Literal["fp8"] | None, Loads("t2i")] = None
    """Format of the matrices in the t2i's transformer blocks during generation: ``fp8`` takes half of bfloat16's memory
    and changes images slightly, and so then does ``draw.batch_size``. For Ada, Hopper and later GPUs, where it has not
    been timed yet; slower on CPUs. null keeps ``dtype``."""


class LtgcModels(T2iModels, TextModels):
    """LTGC's four models."""


class TgnModels(Models):
    """TGN's clip, and the weights that its networks start from."""

    backbone: Annotated[Name | None, PAPER] = Field(default=None, examples=["resnet50-imagenet"])
    """Card of the timm weights that TGN's networks start from, in the paper ImageNet's ResNet-50. null starts from
    random weights, which the report mentions."""


class DiffusionModels(T2iModels, TgnModels):
    """Also the text-to-image model, in place of TGN's own generator."""


class DescribedModels(DiffusionModels, TextModels):
    """Also the models that write the prompts."""
