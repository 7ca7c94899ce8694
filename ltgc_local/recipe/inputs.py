"""Blocks of what a run starts from: the images, and the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ltgc_local.recipe.block import Block, Name
from ltgc_local.recipe.markers import PAPER, Digested, Loads, Runtime


class Data(Block):
    """Which images, by which lists, with which class names."""

    benchmark: Literal[
        "fashion_mnist_lt",
        "imagenet_lt",
        "places_lt",
        "inaturalist18",
        "cifar10_lt",
        "cifar100_lt",
        "dior",
        "fgsc23",
        "dota",
        "anno_lists",
        "image_folder",
        "list_files",
        "csv",
        "parquet",
        "datasets",
    ] = "fashion_mnist_lt"
    """The benchmark, or the form of your own data. The default is one that can be shipped, unlike the paper's."""
    root: Annotated[Path, Digested()] = Field(examples=["../data/fashion_mnist_lt"])
    """Folder of the images; see data/README.md for each benchmark's tree."""
    lists: Annotated[Path | None, Digested()] = Field(default=None, examples=["../data/data_txt/ImageNet_LT"])
    """Folder of the lists or tables that name images and labels; null looks in ``root``."""
    class_names: Annotated[Path | None, Digested()] = Field(
        default=None, json_schema_extra={"expected": "the path of a text file"}
    )
    """Text file of class names, one per line by class id; null takes the benchmark's own. (The released code has two
    lists that disagree.)"""
    imbalance: Annotated[float, Digested()] = Field(default=100.0, ge=1, le=10_000)
    """CIFAR: training images of the largest class over those of the smallest. The default is the usual one."""
    largest_class: Annotated[int | None, Digested()] = Field(default=None, ge=2, le=1_000_000)
    """CIFAR: training images of the largest class; null takes all official ones, as the field does."""
    val_per_class: Annotated[int, Digested()] = Field(default=50, ge=1, le=1_000_000)
    """CIFAR: validation images per class at most, of the official training images that the long tail leaves."""
    split_seed: Annotated[int, Digested()] = Field(default=0, ge=0, le=2**63 - 1)
    """Which images CIFAR's long tail keeps, or the crops' validation split; not the run's seed, so that runs share
    their data."""
    val_percent: Annotated[float, Digested()] = Field(default=5.0, ge=0, lt=100)
    """Crops (DIOR, FGSC-23, DOTA, anno_lists): share of each class's training images that is held out for validation. 0
    trains on all of them, as the released code does, and leaves nothing to choose an epoch by."""
    image_column: str = Field(default="image", min_length=1)
    """csv: the column of paths; parquet and datasets: of images. The default is what ``datasets`` writes."""
    label_column: Annotated[str, Digested()] = Field(default="label", min_length=1)
    """csv, parquet and datasets: the column of labels. The default is what ``datasets`` writes."""

    max_pixels: int = Field(default=64_000_000, ge=1, le=178_956_970)
    """Largest number of pixels of an image; a larger one is refused by its header, because it could fill the memory.
    The upper bound is Pillow's own."""
    alpha_background: str = Field(
        default="white",
        pattern=r"^(white|black|grey|#[0-9a-fA-F]{6})$",
        json_schema_extra={"expected": "white, black, grey or a colour such as '#ffcc00' (in quotes)"},
    )
    """What lies behind images with alpha: white, black, grey or #rrggbb."""

    @property
    def pixels_by(self) -> str:
        """What decides which pixels an image has, for the names of files that hold decoded ones."""
        return "\0".join((self.image_column, str(self.max_pixels), self.alpha_background))

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for key, benchmarks in DATA_KEYS.items():
            default = type(self).model_fields[key].default
            if self.benchmark not in benchmarks and getattr(self, key) != default:
                yield key, f"has no effect on {self.benchmark}; only {', '.join(benchmarks)} use it: remove it"


_CIFAR = ("cifar10_lt", "cifar100_lt")
_CROPS = ("dior", "fgsc23", "dota", "anno_lists")
_LISTED = ("imagenet_lt", "places_lt", "inaturalist18", *_CROPS, "list_files", "csv")
_ENCODED = (*_LISTED, "fashion_mnist_lt", "image_folder", "parquet", "datasets")
#: Key of ``data`` -> the benchmarks that it has an effect on, where that is not all of them.
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
    """Which local models take the method's roles, and on what they run."""

    cards: Annotated[Path, Digested()] = Field(examples=["../model_cards"])
    """Folder of the model cards, one Markdown file per model."""
    clip: Annotated[Name, PAPER] = Field(examples=["tiny-clip"])
    """Card of the CLIP that scores images and, in LTGC, is fine-tuned. The paper has ViT-B/32."""
    device: Annotated[Literal["auto", "cpu", "cuda"], Loads("vlm", "llm", "t2i", "clip", "backbone")] = "auto"
    """Where models run; ``auto`` takes the GPU where there is one."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Loads("vlm", "llm", "t2i", "clip")] = "auto"
    """Number format of the weights; ``auto`` takes the card's, else what suits the device."""
    decode_threads: Annotated[int, Runtime()] = Field(default=0, ge=0, le=256)
    """Threads of a process that decode images for clip; 0 takes one per CPU."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes of this machine that share the shards of a step with a model, each with its own copy of the model on
    its own GPU (or its own ``tensor_parallel`` GPUs); and a training, each with its share of every batch. That changes
    LTGC's result by rounding alone; in TGN's, batch statistics and what augmentation draws are of a share."""


class TextModels(Models):
    """With the two models that write descriptions."""

    vlm: Annotated[Name, PAPER] = Field(examples=["tiny-vlm"])
    """Card of the vision-language model that describes images. The paper has GPT-4V; a card's model is local."""
    llm: Annotated[Name, PAPER] = Field(examples=["tiny-llm"])
    """Card of the language model that extends and refines descriptions. The paper has GPT-4; a card's model is
    local."""
    backend: Literal["auto", "vllm", "transformers"] = "auto"
    """What runs vlm and llm; ``auto`` takes vLLM where it is installed for GPUs, else transformers."""
    quantization: Annotated[Literal["none", "4bit", "8bit"], Loads("vlm", "llm")] = "none"
    """bitsandbytes quantization of vlm and llm by transformers; vLLM reads AWQ, GPTQ and FP8 folders as they are."""
    max_model_len: Annotated[int, Loads("vlm", "llm")] = Field(default=4096, ge=64, le=10_000_000)
    """Tokens of prompt and reply that vLLM keeps room for, or what the model can do if that is less."""
    max_pixels: Annotated[int, Loads("vlm")] = Field(default=1024 * 1024, ge=64, le=100_000_000)
    """Pixels of a picture that the vlm sees at most; a larger one is shrunk."""
    tensor_parallel: int | None = Field(default=None, ge=1, le=64)
    """GPUs that share one vlm or llm: vLLM splits every layer, transformers puts layers on different GPUs; null takes
    the card's number, else 1."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.backend == "vllm" and self.quantization != "none":
            yield (
                "quantization",
                f"'{self.quantization}' is bitsandbytes, which vLLM does not load; write 'backend: transformers', or "
                "name the card of an AWQ, GPTQ or FP8 folder",
            )


class T2iModels(Models):
    """With the model that draws."""

    t2i: Annotated[Name, PAPER] = Field(examples=["tiny-t2i"])
    """Card of the text-to-image model. The paper has DALL-E; a card's model is local."""
    text_encoders: Annotated[Literal["8bit"] | None, Loads("t2i")] = None
    """bitsandbytes quantization of the t2i's two text encoders; null loads them whole. Half their memory, and slightly
    different images; they are on the GPU only while prompts are encoded, in either case."""
    unet: Annotated[Literal["fp8"] | None, Loads("t2i")] = None
    """Format of the matrices in the t2i's transformer blocks while it draws: ``fp8`` has half bfloat16's bytes and
    changes images slightly, as then does ``draw.batch_size``. For Ada, Hopper and later GPUs, where it is not timed
    yet; CPUs are slower. null leaves them as ``dtype``."""


class LtgcModels(T2iModels, TextModels):
    """LTGC's four models."""


class TgnModels(Models):
    """TGN's clip, and the weights that its networks start from."""

    backbone: Annotated[Name | None, PAPER] = Field(default=None, examples=["resnet50-imagenet"])
    """Card of the timm weights that TGN's networks start from, in the paper ImageNet's ResNet-50; null starts them at
    random, which the report says."""


class DiffusionModels(T2iModels, TgnModels):
    """The same with the model that draws in place of TGN's own generator."""


class DescribedModels(DiffusionModels, TextModels):
    """The same with the models that write what is drawn."""
