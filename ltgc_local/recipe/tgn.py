"""Blocks of the second method, TGN: head and tail, the two networks (KMDN), the generator (CDTG), merging, classifier.

The paper is Tang et al., TGRS 2024, as its figures and README show it; the released code is its repository, which does
not train all that the paper describes (the generator's text and class losses are only logged there). The defaults are
the paper's intent; ``recipes/presets/tgn_released.yaml`` is what the released code does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ltgc_local.recipe.block import Block
from ltgc_local.recipe.learning import ImageTraining, TrainingOptions
from ltgc_local.recipe.markers import PAPER, RELEASED, Plans, Runtime, Shapes


class Split(Block):
    """Which classes are the head and which the tail, from training counts alone; and what prompts call a class."""

    head_percent: Annotated[float, RELEASED] = Field(default=40.0, gt=0, lt=100)
    """Share of the classes that are head: int(C * head_percent / 100) of them, those with most training images. 40 is
    the released code's for DIOR; its FGSC-23 lists are of 33."""
    head_classes: str | None = Field(default=None, min_length=1)
    """The head by names or ids, separated by commas, in place of ``head_percent``; all others are tail."""
    prompt: Annotated[str, PAPER] = Field(default="A photo of a {}", pattern=r"^[^{}]*\{\}[^{}]*$")
    """The text that CLIP reads for a class, as in the paper's Figure 1; {} is its name."""


class Backbone(ImageTraining):
    """A timm network, its pictures and its optimiser: KMDN's two networks and the classifier alike."""

    architecture: Annotated[str, PAPER] = Field(default="resnet50", min_length=1, max_length=100)
    """timm's name of the network; ``models.backbone`` names its weights, null starts at random."""
    stem: Literal["full", "no_pool", "small"] = "full"
    """``no_pool``: a ResNet without the pooling after its stem; ``small``: nor does its stem stride, as is usual for
    images of 32 px."""
    size_px: Annotated[int, RELEASED] = Field(default=224, ge=8, le=2048)
    """Width and height that images are resized to; their proportions are not kept."""
    normalisation: Annotated[Literal["half", "weights"], RELEASED] = "half"
    """Mean and std of 0.5, or what the weights were trained with."""
    augment: Annotated[Literal["none", "flip", "flip_crop", "resized_crop"], RELEASED] = "flip"
    lr: Annotated[float, RELEASED] = Field(default=1e-3, gt=0, le=10)
    """Learning rate of Adam."""
    weight_decay: Annotated[float, RELEASED] = Field(default=1e-4, ge=0, le=10)
    """Weight decay of Adam, added to the gradient."""
    lr_drop_epochs: Annotated[int, RELEASED] = Field(default=30, ge=1, le=100_000)
    """Epochs after which the learning rate drops, each time: from epoch 31, 61, … on."""
    lr_drop_factor: Annotated[float, RELEASED] = Field(default=0.1, gt=0, le=1)
    """Factor of each drop; 1 keeps the rate."""
    select: Literal["last", "best_val_all", "best_val_macro_f1"] = "best_val_macro_f1"
    """Which epoch's weights are kept: the last, as in the released code, or the best on validation images by accuracy
    or by macro F1 over the classes that the network knows."""


class Kmdn(Backbone):
    """The knowledge mutual distillation network: one network for the head, one for the tail, each taught by the other.

    loss of the student = CE(student(x), y) + feature_weight * mean((F_student(x) - F_teacher(x))^2), x the student's.
    """

    epochs: Annotated[int, RELEASED, Shapes("alone")] = Field(default=100, ge=1, le=100_000)
    """Epochs of each network alone, before they teach each other. 100 is the released code's for the head; its 1 for
    the tail is read as a placeholder."""
    batch_size: Annotated[int, RELEASED, Shapes("alone")] = Field(default=32, ge=2, le=65_536)
    """Images per step of each network alone."""
    distill: Annotated[bool, Plans()] = True
    """False leaves the networks as they were trained alone, to compare."""
    distill_epochs: Annotated[int, RELEASED, Shapes("distill")] = Field(default=100, ge=1, le=100_000)
    """Epochs of both phases together."""
    distill_interval: Annotated[int, RELEASED, Shapes("distill")] = Field(default=50, ge=1, le=100_000)
    """Epochs after which teacher and student change places."""
    first_teacher: Annotated[Literal["tail", "head"], RELEASED, Shapes("distill")] = "tail"
    """Which network teaches first."""
    distill_batch_size: Annotated[int, RELEASED, Shapes("distill")] = Field(default=64, ge=2, le=65_536)
    """Images per step of distillation."""
    feature: Annotated[str, RELEASED, Shapes("distill")] = Field(default="layer3", min_length=1, max_length=100)
    """Stage whose feature maps are compared, by timm's name of the module; the generator reads them, too."""
    feature_weight: Annotated[float, RELEASED, Shapes("distill")] = Field(default=0.2, ge=0, le=1000)
    """alpha, the weight of the feature loss."""
    reinit_fc: Annotated[bool, RELEASED, Shapes("distill")] = True
    """Both networks start distillation with a fresh last layer."""
    lr_schedule: Annotated[Literal["global", "per_phase"], RELEASED, Shapes("distill")] = "global"
    """Whose epochs ``lr_drop_epochs`` counts: distillation's, so that the second student starts at a tenth, or each
    phase's own."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.distill and self.distill_epochs <= self.distill_interval:
            student = "head" if self.first_teacher == "tail" else "tail"
            yield (
                "distill_epochs",
                f"{self.distill_epochs} are over before the {'head' if student == 'tail' else 'tail'} network is a "
                f"student; write more than distill_interval, {self.distill_interval}",
            )


class Cdtg(TrainingOptions):
    """The class-consistent diverse tail generator: a class-conditional GAN in wavelet space over the tail classes.

    z = r * noise + (1 - r) * W(F_T), F_T the tail network's features of a real image, W trained with the generator.
    """

    behaviour: Annotated[Literal["intended", "released"], PAPER] = "intended"
    """``intended``: the class and CLIP losses train the generator, the fusion map W is trained, averaged and kept, the
    tail network is frozen in eval mode. ``released``, as in the released code: those losses are only logged, W stays
    random and is drawn afresh for generation, the tail network normalises by its batch."""
    start_from: Annotated[Path | None, RELEASED] = None
    """Folder of another run's finished ``cdtg/train``: both networks start from its weights, where name and shape are
    the same (the released code's --ckpt); null starts at random."""
    classes: Annotated[Literal["tail", "all"], RELEASED] = "tail"
    """Whose real images train it: the tail's, or all, the head's under labels of their own."""
    sampler: Annotated[Literal["instance", "balanced"], RELEASED] = "instance"
    """How real images are drawn: each equally often, or a class evenly, then its images."""
    size_px: Annotated[int, RELEASED] = Field(default=256, ge=16, le=1024)
    """Width and height that are generated, a power of two."""
    style_dim: Annotated[int, RELEASED] = Field(default=512, ge=8, le=4096)
    """Width of z, w and the label embedding."""
    mlp_layers: Annotated[int, RELEASED] = Field(default=8, ge=1, le=32)
    """Layers of the mapping network."""
    mlp_lr: Annotated[float, RELEASED] = Field(default=0.01, gt=0, le=1)
    """Factor of the mapping network's learning rate."""
    channel_multiplier: Annotated[float, RELEASED] = Field(default=2.0, gt=0, le=4)
    """Factor of the channels above 32 px, where 1 gives 256 at 64 px and halves with each doubling."""
    max_channels: Annotated[int, RELEASED] = Field(default=512, ge=8, le=1024)
    """Channels at most, which is what the low resolutions have; fewer make a miniature."""
    fusion: Annotated[Literal["flatten", "pool"], RELEASED] = "flatten"
    """What W reads: the whole feature map, flattened (134 million weights at 256 px), or its mean over places."""
    features: bool = True
    """False generates from noise alone, to compare."""
    r_train: Annotated[float, RELEASED] = Field(default=0.8, ge=0, le=1)
    """Share of noise in z while training; its upper end if ``r_train_low`` is given."""
    r_train_low: float | None = Field(default=None, ge=0, le=1)
    """Draw each image's r evenly from here to ``r_train``, so that any r may be asked for later; null keeps it
    fixed."""
    r: Annotated[float, RELEASED, Shapes("generate")] = Field(default=0.05, ge=0, le=1)
    """Share of noise in z while generating."""
    text_condition: Annotated[bool, RELEASED] = False
    """Add CLIP's text feature of the class, through a trained map, to the label embedding. The paper's Figure 1 has an
    arrow for it, which no released code draws."""
    class_weight: Annotated[float, PAPER] = Field(default=1.0, ge=0, le=1000)
    """Weight of the tail network's cross-entropy on generated images, which the released code only logs; 0 leaves it
    out."""
    clip_weight: Annotated[float, PAPER] = Field(default=1.0, ge=0, le=1000)
    """Weight of CLIP's cross-entropy over the tail classes' prompts, which the released code only logs; 0 leaves it
    out."""
    clip_classes: Annotated[Literal["tail", "all"], PAPER] = "tail"
    """Whose prompts CLIP chooses among in that loss: the tail's, or all classes'."""
    consistency_shrink: int = Field(default=1, ge=1, le=65_536)
    """The class and CLIP losses are of a batch this many times smaller: on a CPU their networks cost more than the
    generator."""
    label_fusion: Annotated[Literal["concat", "projection"], RELEASED] = "concat"
    """How the discriminator learns the class: its embedding next to the last maps, or multiplied with the last features
    (Miyato and Koyama 2018)."""
    r1_weight: Annotated[float, RELEASED] = Field(default=10.0, ge=0, le=1000)
    """Weight of the gradient penalty R1."""
    r1_every: Annotated[int, RELEASED] = Field(default=16, ge=1, le=100_000_000)
    """Steps between R1 penalties."""
    path_weight: Annotated[float, RELEASED] = Field(default=2.0, ge=0, le=1000)
    """Weight of the path length penalty."""
    path_every: Annotated[int, RELEASED] = Field(default=4, ge=1, le=100_000_000)
    """Steps between path length penalties."""
    path_batch_shrink: Annotated[int, RELEASED] = Field(default=2, ge=1, le=65_536)
    """The path length is of a batch this many times smaller."""
    path_decay: Annotated[float, RELEASED] = Field(default=0.01, gt=0, le=1)
    """Decay of the running mean of path lengths."""
    style_mixing: Annotated[float, RELEASED] = Field(default=1.0, ge=0, le=1)
    """Probability that two latents share an image. The released code always mixes; its option says 0.9."""
    ema: Annotated[float, RELEASED] = Field(default=0.99778, ge=0, lt=1)
    """Per-step decay of the generator's moving average, which is what generates: 0.5^(32/10000)."""
    augment: Annotated[Literal["none", "ada"], RELEASED] = "none"
    """What the discriminator sees: images as they are, or adaptively augmented (Karras et al. 2020), for classes of few
    images."""
    ada_target: Annotated[float, RELEASED] = Field(default=0.6, gt=0, lt=1)
    """Of ``ada``: the share of real images that the discriminator is to be sure of."""
    ada_max: float = Field(default=0.8, gt=0, le=1)
    """Of ``ada``: the probability at most."""
    ada_images: Annotated[int, RELEASED] = Field(default=500_000, ge=1, le=10_000_000_000)
    """Of ``ada``: images over which the probability may go from 0 to 1."""
    ada_every: Annotated[int, RELEASED] = Field(default=8, ge=1, le=100_000_000)
    """Of ``ada``: steps between its changes."""
    steps: Annotated[int, RELEASED] = Field(default=200_000, ge=1, le=100_000_000)
    """Steps of training."""
    batch_size: Annotated[int, RELEASED] = Field(default=8, ge=2, le=65_536)
    """Images per step."""
    lr: Annotated[float, RELEASED] = Field(default=0.002, gt=0, le=1)
    """Learning rate of both networks' Adam, before lazy regularisation's factor."""
    beta2: Annotated[float, RELEASED] = Field(default=0.99, gt=0, lt=1)
    """beta2 of Adam, whose beta1 is 0."""
    flip: Annotated[bool, RELEASED] = False
    """Flip real images at random."""
    sample_every: int = Field(default=5000, ge=1, le=100_000_000)
    """Steps between grids of sample images, and between lines of the history."""
    generate_batch_size: Annotated[int, Runtime()] = Field(default=32, ge=1, le=65_536)
    """Images generated at once."""
    shard_size: Annotated[int, Shapes("generate")] = Field(default=256, ge=1, le=100_000)
    """Generated images per file, which is what an interruption can lose."""
    stored_size_px: Annotated[int | None, Shapes("generate")] = Field(default=None, ge=8, le=1024)
    """Size at which generated images are stored; null stores what is generated. Give the originals' size when they are
    small, so that resampling is no shortcut feature."""
    stored_mode: Annotated[Literal["RGB", "L"], Shapes("generate")] = "RGB"
    """Colour or grey, as the originals are."""
    compile: Annotated[bool, Runtime()] = False
    """Compile both networks by torch.compile, on a GPU."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.size_px & (self.size_px - 1):
            yield "size_px", f"{self.size_px} is no power of two; write 32, 64, 128 or 256"
        if self.r_train_low is not None and self.r_train_low > self.r_train:
            yield "r_train_low", f"{self.r_train_low:g} is above r_train, {self.r_train:g}"
        if self.stored_size_px is not None and self.stored_size_px > self.size_px:
            yield "stored_size_px", f"{self.stored_size_px} is larger than size_px, {self.size_px}; images only shrink"


class Merge(Block):
    """How many generated images each tail class gets, and from how many real ones."""

    budget: Annotated[Literal["fixed", "largest", "median", "number"], PAPER] = "fixed"
    """``fixed`` adds ``images`` to every tail class; the others fill tail classes up: to the largest class's number of
    training images, to the median class's, or to ``images``."""
    images: Annotated[int, PAPER] = Field(default=7000, ge=1, le=1_000_000)
    """Generated images that ``fixed`` adds to a class, or images that ``number`` fills it up to. 7000 is for DIOR, by
    the README."""
    per_source: Annotated[int, RELEASED] = Field(default=5, ge=1, le=1_000_000)
    """Generated images of each real one in a row; when all real images of a class have had theirs, it begins again with
    other noise."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.budget in ("largest", "median") and self.images != 7000:
            yield "images", f"has no effect on budget '{self.budget}'; remove it"


class Classifier(Backbone):
    """The network that is trained on originals and generated images, and its control on originals alone."""

    epochs: Annotated[int, RELEASED] = Field(default=50, ge=1, le=100_000)
    """Passes over an arm's images."""
    batch_size: Annotated[int, RELEASED] = Field(default=32, ge=2, le=65_536)
    """Images per step."""
    equal_steps: Annotated[bool, RELEASED] = False
    """The control takes as many steps as the other arm, by passing over its images more often; else each arm passes
    ``epochs`` times over its own, the control over fewer. True shows what generated images are worth."""
    sampler: Annotated[Literal["instance", "balanced"], RELEASED] = "instance"
    """Every image equally often, or a class evenly, then one of its images."""
    control: Annotated[bool, PAPER, Plans()] = True
    """Also train the control: the same network on originals alone."""


class Measure(Block):
    """What is measured of the generated images, beside what the classifier gains."""

    enabled: Annotated[bool, Plans()] = True
    """False leaves the measures out."""
    max_images: int = Field(default=1000, ge=2, le=1_000_000)
    """Generated images of a class, and real ones, that are measured at most: a seeded sample."""
    kid_subsets: int = Field(default=100, ge=1, le=100_000)
    """Subsets whose mean is the kernel distance (Binkowski et al. 2018)."""
    kid_subset_size: int = Field(default=1000, ge=2, le=1_000_000)
    """Images of a subset, or all where there are fewer."""
    batch_size: Annotated[int, Runtime()] = Field(default=64, ge=1, le=65_536)
    """Images that CLIP sees at once."""
