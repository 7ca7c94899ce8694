"""Blocks of TGN: head and tail, the two networks (KMDN), the generator (CDTG), merging, classifier, measures.

The paper is Tang et al., TGRS 2024, as its figures and README show it. The released code does not train everything that
the paper describes: it only logs the generator's text and class losses. The defaults follow the paper;
``recipes/presets/tgn_released.yaml`` follows the released code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ltgc_local.recipe.block import Block, Conflict, StoredMode, StoredSize, stored_size_conflicts
from ltgc_local.recipe.learning import ImageTraining, TrainingOptions
from ltgc_local.recipe.markers import PAPER, RELEASED, Plans, Runtime, Shapes


class Split(Block):
    """Which classes are head and which are tail, from training counts alone; and the prompt for a class."""

    head_percent: Annotated[float, RELEASED] = Field(default=40.0, gt=0, lt=100)
    """Percentage of the classes that are head: the int(C * head_percent / 100) classes with most training images. 40 is
    the released code's for DIOR; its FGSC-23 lists have 33."""
    head_classes: str | None = Field(default=None, min_length=1)
    """The head classes by name or id, separated by commas, in place of ``head_percent``; all others are tail."""
    prompt: Annotated[str, PAPER] = Field(default="A photo of a {}", pattern=r"^[^{}]*\{\}[^{}]*$")
    """The text that CLIP reads for a class, as in the paper's Figure 1; {} is its name."""


class Backbone(ImageTraining):
    """A timm network, its input and its optimizer, for KMDN's two networks and the classifier alike."""

    architecture: Annotated[str, PAPER] = Field(default="resnet50", min_length=1, max_length=100)
    """timm's name of the network; ``models.backbone`` names its weights, null starts from random ones."""
    stem: Literal["full", "no_pool", "small"] = "full"
    """``no_pool`` removes the pooling after a ResNet's stem; ``small`` also removes the stem's stride, as is usual for
    32 px images."""
    size_px: Annotated[int, RELEASED] = Field(default=224, ge=8, le=2048)
    """Width and height that images are resized to, without keeping their aspect ratio."""
    normalisation: Annotated[Literal["half", "weights"], RELEASED] = "half"
    """Mean and standard deviation of 0.5, or those that the weights were trained with."""
    augment: Annotated[Literal["none", "flip", "flip_crop", "resized_crop"], RELEASED] = "flip"
    lr: Annotated[float, RELEASED] = Field(default=1e-3, gt=0, le=10)
    """Learning rate of Adam."""
    weight_decay: Annotated[float, RELEASED] = Field(default=1e-4, ge=0, le=10)
    """Weight decay of Adam, added to the gradient."""
    lr_drop_epochs: Annotated[int, RELEASED] = Field(default=30, ge=1, le=100_000)
    """Epochs between drops of the learning rate: at 30 it drops from epoch 31, 61, … on."""
    lr_drop_factor: Annotated[float, RELEASED] = Field(default=0.1, gt=0, le=1)
    """Factor of each drop; 1 keeps the rate."""
    select: Literal["last", "best_val_all", "best_val_macro_f1"] = "best_val_macro_f1"
    """Which epoch's weights are kept: the last, as in the released code, or the best on validation images by accuracy
    or by macro F1 over the network's classes."""


class Kmdn(Backbone):
    """The knowledge mutual distillation network: a network for the head and one for the tail teach each other.

    student's loss = CE(student(x), y) + feature_weight * mean((F_student(x) - F_teacher(x))^2), x the student's images.
    """

    epochs: Annotated[int, RELEASED, Shapes("alone")] = Field(default=100, ge=1, le=100_000)
    """Epochs of each network alone, before distillation. 100 is the released code's for the head; its 1 for the tail
    appears to be a placeholder."""
    batch_size: Annotated[int, RELEASED, Shapes("alone")] = Field(default=32, ge=2, le=65_536)
    """Images per step of each network alone."""
    distill: Annotated[bool, Plans()] = True
    """False leaves the networks as they were trained alone, for comparison."""
    distill_epochs: Annotated[int, RELEASED, Shapes("distill")] = Field(default=100, ge=1, le=100_000)
    """Epochs of both phases together."""
    distill_interval: Annotated[int, RELEASED, Shapes("distill")] = Field(default=50, ge=1, le=100_000)
    """Epochs after which teacher and student swap roles."""
    first_teacher: Annotated[Literal["tail", "head"], RELEASED, Shapes("distill")] = "tail"
    """Which network teaches first."""
    distill_batch_size: Annotated[int, RELEASED, Shapes("distill")] = Field(default=64, ge=2, le=65_536)
    """Images per step of distillation."""
    feature: Annotated[str, RELEASED, Shapes("distill")] = Field(default="layer3", min_length=1, max_length=100)
    """Stage whose feature maps are compared, by timm's name of the module; the generator reads the same ones."""
    feature_weight: Annotated[float, RELEASED, Shapes("distill")] = Field(default=0.2, ge=0, le=1000)
    """alpha, the weight of the feature loss."""
    reinit_fc: Annotated[bool, RELEASED, Shapes("distill")] = True
    """Both networks start distillation with a new last layer."""
    lr_schedule: Annotated[Literal["global", "per_phase"], RELEASED, Shapes("distill")] = "global"
    """Which epochs ``lr_drop_epochs`` counts: all of distillation's, so that the second student starts at a tenth of
    the rate, or each phase's own."""

    def conflicts(self) -> Iterator[Conflict]:
        if self.distill and self.distill_epochs <= self.distill_interval:
            over = f"{self.distill_epochs} are over before the {self.first_teacher} network is a student"
            yield "distill_epochs", f"{over}; write more than distill_interval, {self.distill_interval}"


class Cdtg(TrainingOptions):
    """The class-consistent diverse tail generator: a class-conditional GAN in wavelet space over the tail classes.

    z = r * noise + (1 - r) * W(F_T), where F_T are the tail network's features of a real image and W is trained with
    the generator.
    """

    behaviour: Annotated[Literal["intended", "released"], PAPER] = "intended"
    """``intended``: the class and CLIP losses train the generator, the fusion map W is trained, averaged and kept, the
    tail network is frozen in eval mode. ``released``, as in the released code: those losses are only logged, W stays
    random and is sampled again for generation, and the tail network normalises by its batch."""
    start_from: Annotated[Path | None, RELEASED] = None
    """Folder of another run's finished ``cdtg/train``; both networks start from its weights where name and shape match
    (the released code's --ckpt). null starts from random weights."""
    classes: Annotated[Literal["tail", "all"], RELEASED] = "tail"
    """Whose real images train it: the tail's, or all, with the head's under labels of their own."""
    sampler: Annotated[Literal["instance", "balanced"], RELEASED] = "instance"
    """How real images are sampled: each equally often, or a class uniformly and then one of its images."""
    size_px: Annotated[int, RELEASED] = Field(default=256, ge=16, le=1024)
    """Width and height of the generated images, a power of two."""
    style_dim: Annotated[int, RELEASED] = Field(default=512, ge=8, le=4096)
    """Width of z, w and the label embedding."""
    mlp_layers: Annotated[int, RELEASED] = Field(default=8, ge=1, le=32)
    """Layers of the mapping network."""
    mlp_lr: Annotated[float, RELEASED] = Field(default=0.01, gt=0, le=1)
    """Factor of the mapping network's learning rate."""
    channel_multiplier: Annotated[float, RELEASED] = Field(default=2.0, gt=0, le=4)
    """Factor of the channels above 32 px; 1 gives 256 at 64 px and half as many at each doubling."""
    max_channels: Annotated[int, RELEASED] = Field(default=512, ge=8, le=1024)
    """Most channels, which the low resolutions have; fewer make a miniature."""
    fusion: Annotated[Literal["flatten", "pool"], RELEASED] = "flatten"
    """What W reads: the whole feature map, flattened (134 million weights at 256 px), or its mean over positions."""
    features: bool = True
    """False generates from noise alone, for comparison."""
    r_train: Annotated[float, RELEASED] = Field(default=0.8, ge=0, le=1)
    """Fraction of noise in z during training; its upper end if ``r_train_low`` is given."""
    r_train_low: float | None = Field(default=None, ge=0, le=1)
    """Sample each image's r uniformly from here to ``r_train``, so that any r can be used later; null keeps it
    fixed."""
    r: Annotated[float, RELEASED, Shapes("generate")] = Field(default=0.05, ge=0, le=1)
    """Fraction of noise in z during generation."""
    text_condition: Annotated[bool, RELEASED] = False
    """Add CLIP's text feature of the class, through a trained map, to the label embedding. The paper's Figure 1 has an
    arrow for it that the released code does not implement."""
    class_weight: Annotated[float, PAPER] = Field(default=1.0, ge=0, le=1000)
    """Weight of the tail network's cross-entropy on generated images, which the released code only logs; 0 is off. At 1
    the quickstart's generator fooled its small tail network before it learnt shapes, so the quickstart has 0.1. Neither
    has been tried at full size: if ``samples-*.png`` show no objects while this loss is low, lower it."""
    clip_weight: Annotated[float, PAPER] = Field(default=1.0, ge=0, le=1000)
    """Weight of CLIP's cross-entropy over the class prompts, which the released code only logs; 0 is off. The
    quickstart has 0.1, as for ``class_weight``."""
    clip_classes: Annotated[Literal["tail", "all"], PAPER] = "tail"
    """Whose prompts CLIP chooses among in that loss: the tail's, or all classes'."""
    consistency_shrink: int = Field(default=1, ge=1, le=65_536)
    """Compute the class and CLIP losses on a batch this many times smaller: on a CPU their networks cost more than the
    generator."""
    label_fusion: Annotated[Literal["concat", "projection"], RELEASED] = "concat"
    """How the discriminator reads the class: its embedding is concatenated to the last maps, or multiplied with the
    last features (Miyato and Koyama 2018)."""
    r1_weight: Annotated[float, RELEASED] = Field(default=10.0, ge=0, le=1000)
    """Weight of the gradient penalty R1, taken at the images that the discriminator sees. With ``augment: ada`` these
    are the augmented ones, where StyleGAN2-ADA takes it at the originals."""
    r1_every: Annotated[int, RELEASED] = Field(default=16, ge=1, le=100_000_000)
    """Steps between R1 penalties."""
    path_weight: Annotated[float, RELEASED] = Field(default=2.0, ge=0, le=1000)
    """Weight of the path length penalty."""
    path_every: Annotated[int, RELEASED] = Field(default=4, ge=1, le=100_000_000)
    """Steps between path length penalties."""
    path_batch_shrink: Annotated[int, RELEASED] = Field(default=2, ge=1, le=65_536)
    """Compute the path length on a batch this many times smaller."""
    path_decay: Annotated[float, RELEASED] = Field(default=0.01, gt=0, le=1)
    """Decay of the running mean of path lengths."""
    style_mixing: Annotated[float, RELEASED] = Field(default=1.0, ge=0, le=1)
    """Probability that an image mixes two latents. The released code always mixes; its option says 0.9."""
    ema: Annotated[float, RELEASED] = Field(default=0.99778, ge=0, lt=1)
    """Per-step EMA decay of the generator, whose average generates the images: 0.5^(32/10000)."""
    augment: Annotated[Literal["none", "ada"], RELEASED] = "none"
    """What the discriminator sees: unchanged images, or adaptively augmented ones (Karras et al. 2020), for classes
    with few images."""
    ada_target: Annotated[float, RELEASED] = Field(default=0.6, gt=0, lt=1)
    """For ``ada``: fraction of real images that the discriminator should be sure of."""
    ada_max: float = Field(default=0.8, gt=0, le=1)
    """For ``ada``: largest augmentation probability."""
    ada_images: Annotated[int, RELEASED] = Field(default=500_000, ge=1, le=10_000_000_000)
    """For ``ada``: images over which the probability can rise from 0 to 1."""
    ada_every: Annotated[int, RELEASED] = Field(default=8, ge=1, le=100_000_000)
    """For ``ada``: steps between its changes."""
    steps: Annotated[int, RELEASED] = Field(default=200_000, ge=1, le=100_000_000)
    """Training steps."""
    batch_size: Annotated[int, RELEASED] = Field(default=8, ge=2, le=65_536)
    """Images per step."""
    lr: Annotated[float, RELEASED] = Field(default=0.002, gt=0, le=1)
    """Learning rate of both networks' Adam, before lazy regularisation's factor."""
    beta2: Annotated[float, RELEASED] = Field(default=0.99, gt=0, lt=1)
    """beta2 of Adam; its beta1 is 0."""
    flip: Annotated[bool, RELEASED] = False
    """Flip real images at random."""
    sample_every: int = Field(default=5000, ge=1, le=100_000_000)
    """Steps between grids of sample images, and between lines of the history."""
    generate_batch_size: Annotated[int, Runtime()] = Field(default=32, ge=1, le=65_536)
    """Images generated at once."""
    shard_size: Annotated[int, Shapes("generate")] = Field(default=256, ge=1, le=100_000)
    """Generated images per file, which is what an interruption can lose."""
    stored_size_px: Annotated[StoredSize, Shapes("generate")] = None
    stored_mode: Annotated[StoredMode, Shapes("generate")] = "RGB"
    compile: Annotated[bool, Runtime()] = False
    """Compile both networks with torch.compile, on a GPU."""

    def conflicts(self) -> Iterator[Conflict]:
        if self.size_px & (self.size_px - 1):
            yield "size_px", f"{self.size_px} is not a power of two; write 32, 64, 128 or 256"
        if self.r_train_low is not None and self.r_train_low > self.r_train:
            yield "r_train_low", f"{self.r_train_low:g} is above r_train, {self.r_train:g}"
        yield from stored_size_conflicts(self.size_px, self.stored_size_px)


class Merge(Block):
    """How many generated images each tail class gets, and from how many real ones."""

    budget: Annotated[Literal["fixed", "largest", "median", "number"], PAPER] = "fixed"
    """``fixed`` adds ``images`` to every tail class. The others fill tail classes up: to the number of training images
    of the largest class or of the median class, or to ``images``."""
    images: Annotated[int, PAPER] = Field(default=7000, ge=1, le=1_000_000)
    """Generated images that ``fixed`` adds to a class, or images that ``number`` fills it up to. 7000 is for DIOR,
    according to the README."""
    per_source: Annotated[int, RELEASED] = Field(default=5, ge=1, le=1_000_000)
    """Images generated from each real one in turn; once all real images of a class are used, it starts over with other
    noise."""

    def conflicts(self) -> Iterator[Conflict]:
        if self.budget in ("largest", "median") and self.images != 7000:
            yield "images", f"has no effect on budget '{self.budget}'; remove it"


class Classifier(Backbone):
    """The network that is trained on originals and generated images, and its control on originals alone."""

    epochs: Annotated[int, RELEASED] = Field(default=50, ge=1, le=100_000)
    """Epochs over an arm's images."""
    batch_size: Annotated[int, RELEASED] = Field(default=32, ge=2, le=65_536)
    """Images per step."""
    equal_steps: Annotated[bool, RELEASED] = False
    """True gives the control as many steps as the other arm, by repeating its images, which isolates the effect of the
    generated images. False trains each arm for ``epochs`` epochs of its own images, of which the control has fewer."""
    sampler: Annotated[Literal["instance", "balanced"], RELEASED] = "instance"
    """Every image equally often, or a class uniformly and then one of its images."""
    control: Annotated[bool, PAPER, Plans()] = True
    """Also train the control: the same network on originals alone."""


class Measure(Block):
    """What is measured on the generated images, besides what the classifier gains."""

    enabled: Annotated[bool, Plans()] = True
    """False leaves the measures out."""
    max_images: int = Field(default=1000, ge=2, le=1_000_000)
    """Most generated images, and most real ones, measured per class: a seeded sample."""
    kid_subsets: int = Field(default=100, ge=1, le=100_000)
    """Subsets over which the kernel distance is averaged (Binkowski et al. 2018)."""
    kid_subset_size: int = Field(default=1000, ge=2, le=1_000_000)
    """Images per subset, or all if there are fewer."""
    batch_size: Annotated[int, Runtime()] = Field(default=64, ge=1, le=65_536)
    """Images per CLIP batch."""
