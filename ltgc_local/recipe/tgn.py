"""Blocks of the second method, TGN: head and tail, the two networks (KMDN), the generator (CDTG), merging, classifier.

Sources: [paper] is Tang et al., TGRS 2024, as its figures and README show it; [released code] its repository, which
does not train all that the paper describes (the generator's text and class losses are only logged there). The defaults
are the paper's intent; ``recipes/presets/tgn_released.yaml`` is what the released code does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from ltgc_local.recipe.block import Block


class Split(Block):
    """Which classes are the head and which the tail, from training counts alone; and what prompts call a class."""

    head_percent: float = Field(default=40.0, gt=0, lt=100)
    """Share of the classes that are head: int(C * head_percent / 100) of them, those with most training images
    [released code: 40 for DIOR; its FGSC-23 lists are of 33]."""
    head_classes: str | None = Field(default=None, min_length=1)
    """The head by names or ids, separated by commas, in place of ``head_percent``; all others are tail. Ours."""
    prompt: str = Field(default="A photo of a {}", pattern=r"^[^{}]*\{\}[^{}]*$")
    """The text that CLIP reads for a class; {} is its name [paper, Figure 1]."""


class TrainingOptions(Block):
    """What every training of this method has: number format, checkpoints, decoded images."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the forward pass under autocast. Ours."""
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """Minutes between checkpoints, from which a killed training goes on exactly; 0 writes one a step. Ours."""
    in_memory_mib: int = Field(default=2048, ge=0, le=100_000_000)
    """Decoded images of a split are kept in memory up to this many MiB, else in a file in the run directory. Ours."""
    decode_workers: int = Field(default=0, ge=0, le=256)
    """Processes that decode into that file; 1 decodes in the step's own, 0 takes one a CPU. Ours."""


class Backbone(TrainingOptions):
    """A timm network, its pictures and its optimiser: KMDN's two networks and the classifier alike."""

    architecture: str = Field(default="resnet50", min_length=1, max_length=100)
    """timm's name of the network [paper: ResNet-50]; ``models.backbone`` names its weights, null starts at random."""
    stem: Literal["full", "no_pool", "small"] = "full"
    """``no_pool``: a ResNet without the pooling after its stem; ``small``: nor does its stem stride, as is usual for
    images of 32 px. Ours."""
    size_px: int = Field(default=224, ge=8, le=2048)
    """Width and height that images are resized to; their proportions are not kept [released code]."""
    normalisation: Literal["half", "weights"] = "half"
    """Mean and std of 0.5 [released code], or what the weights were trained with."""
    augment: Literal["none", "flip", "flip_crop", "resized_crop"] = "flip"
    """Random changes of training images: flips [released code]; with shifts by an eighth, or with crops. Ours."""
    crop_scale: float = Field(default=0.08, gt=0, le=1)
    """Of ``resized_crop``: the smallest share of the image's area. Ours: torchvision's default."""
    blur_px: float = Field(default=0.0, ge=0, le=20)
    """Largest standard deviation of a random blur of every training image, in pixels, so that sharpness does not tell
    original from generated. Ours."""
    noise: float = Field(default=0.0, ge=0, le=1)
    """Largest standard deviation of random noise, of the range from black to white. Ours."""
    batch_size: int = Field(default=32, ge=2, le=65_536)
    """Images a step [released code]."""
    lr: float = Field(default=1e-3, gt=0, le=10)
    """Learning rate of Adam [released code]."""
    weight_decay: float = Field(default=1e-4, ge=0, le=10)
    """Of Adam, added to the gradient [released code]."""
    lr_drop_epochs: int = Field(default=30, ge=1, le=100_000)
    """The learning rate drops after every so many epochs: from epoch 31, 61, … on [released code]."""
    lr_drop_factor: float = Field(default=0.1, gt=0, le=1)
    """Factor of each drop [released code]; 1 keeps the rate."""
    select: Literal["last", "best_val_all", "best_val_macro_f1"] = "best_val_macro_f1"
    """Which epoch's weights are kept: the last [released code], or the best on validation images by accuracy or by
    macro F1 over the classes that the network knows. The default is ours."""


class Kmdn(Backbone):
    """The knowledge mutual distillation network: one network for the head, one for the tail, each taught by the other.

    loss of the student = CE(student(x), y) + feature_weight * mean((F_student(x) - F_teacher(x))^2), x the student's.
    """

    epochs: int = Field(default=100, ge=1, le=100_000)
    """Of each network alone, before they teach each other [released code: 100 for the head; its 1 for the tail is read
    as a placeholder]."""
    distill: bool = True
    """False leaves the networks as they were trained alone. Ours: the comparison."""
    distill_epochs: int = Field(default=100, ge=1, le=100_000)
    """Of both phases together [released code]."""
    distill_interval: int = Field(default=50, ge=1, le=100_000)
    """Epochs after which teacher and student change places [released code]."""
    first_teacher: Literal["tail", "head"] = "tail"
    """Who teaches first [released code: the tail network]."""
    distill_batch_size: int = Field(default=64, ge=2, le=65_536)
    """Images a step of distillation [released code]."""
    feature: str = Field(default="layer3", min_length=1, max_length=100)
    """Stage whose feature maps are compared, by timm's name of the module; the generator reads them, too
    [released code: a ResNet's layer3]."""
    feature_weight: float = Field(default=0.2, ge=0, le=1000)
    """alpha, the weight of the feature loss [released code]."""
    reinit_fc: bool = True
    """Both networks start distillation with a fresh last layer [released code]."""
    lr_schedule: Literal["global", "per_phase"] = "global"
    """Whose epochs ``lr_drop_epochs`` counts: distillation's, so that the second student starts at a tenth
    [released code], or each phase's own. Ours."""

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

    behaviour: Literal["intended", "released"] = "intended"
    """``intended``: the class and CLIP losses train the generator, the fusion map W is trained, averaged and kept, the
    tail network is frozen in eval mode [paper]. ``released``: those losses are only logged, W stays random and is
    drawn afresh for generation, the tail network normalises by its batch [released code]."""
    start_from: Path | None = Field(default=None, json_schema_extra={"expected": "the path of a folder"})
    """Folder of another run's finished ``cdtg/train``: both networks start from its weights, where name and shape are
    the same; null starts at random [released code: its --ckpt]."""
    classes: Literal["tail", "all"] = "tail"
    """Whose real images train it: the tail's [released code], or all, the head's under labels of their own. Ours."""
    sampler: Literal["instance", "balanced"] = "instance"
    """How real images are drawn: each equally often [released code], or a class evenly, then its images. Ours."""
    size_px: int = Field(default=256, ge=16, le=1024)
    """Width and height that are generated, a power of two [released code]."""
    style_dim: int = Field(default=512, ge=8, le=4096)
    """Of z, w and the label embedding [released code]."""
    mlp_layers: int = Field(default=8, ge=1, le=32)
    """Of the mapping network [released code]."""
    mlp_lr: float = Field(default=0.01, gt=0, le=1)
    """Factor of the mapping network's learning rate [released code]."""
    channel_multiplier: float = Field(default=2.0, gt=0, le=4)
    """Of the channels above 32 px, where 1 gives 256 at 64 px and halves with each doubling [released code]."""
    max_channels: int = Field(default=512, ge=8, le=1024)
    """Channels at most, which is what the low resolutions have [released code]; fewer make a miniature."""
    fusion: Literal["flatten", "pool"] = "flatten"
    """What W reads: the whole feature map, flattened (134 million weights at 256 px) [released code], or its mean over
    places."""
    features: bool = True
    """False generates from noise alone. Ours: the comparison."""
    r_train: float = Field(default=0.8, ge=0, le=1)
    """Share of noise in z while training; its upper end if ``r_train_low`` is given [released code]."""
    r_train_low: float | None = Field(default=None, ge=0, le=1)
    """Draw each image's r evenly from here to ``r_train``, so that any r may be asked for later; null keeps it fixed.
    Ours."""
    r: float = Field(default=0.05, ge=0, le=1)
    """Share of noise in z while generating [released code]."""
    text_condition: bool = False
    """Add CLIP's text feature of the class, through a trained map, to the label embedding [paper, Figure 1's arrow,
    which no released code draws]."""
    class_weight: float = Field(default=1.0, ge=0, le=1000)
    """Of the tail network's cross-entropy on generated images; 0 leaves it out [released code, where it is only
    logged]."""
    clip_weight: float = Field(default=1.0, ge=0, le=1000)
    """Of CLIP's cross-entropy over the tail classes' prompts; 0 leaves it out [released code, where it is only
    logged]."""
    clip_classes: Literal["tail", "all"] = "tail"
    """Whose prompts CLIP chooses among in that loss: the tail's [paper], or all classes'. Ours."""
    consistency_shrink: int = Field(default=1, ge=1, le=65_536)
    """The class and CLIP losses are of a batch this many times smaller: on a CPU their networks cost more than the
    generator. Ours."""
    label_fusion: Literal["concat", "projection"] = "concat"
    """How the discriminator learns the class: its embedding beside the last maps [released code], or multiplied with
    the last features (Miyato and Koyama 2018). Ours."""
    r1_weight: float = Field(default=10.0, ge=0, le=1000)
    """Of the gradient penalty R1 [released code]."""
    r1_every: int = Field(default=16, ge=1, le=100_000_000)
    """Steps between R1 penalties [released code]."""
    path_weight: float = Field(default=2.0, ge=0, le=1000)
    """Of the path length penalty [released code]."""
    path_every: int = Field(default=4, ge=1, le=100_000_000)
    """Steps between path length penalties [released code]."""
    path_batch_shrink: int = Field(default=2, ge=1, le=65_536)
    """The path length is of a batch this many times smaller [released code]."""
    path_decay: float = Field(default=0.01, gt=0, le=1)
    """Of the running mean of path lengths [released code]."""
    style_mixing: float = Field(default=1.0, ge=0, le=1)
    """Probability that two latents share an image [released code: always; its option says 0.9]."""
    ema: float = Field(default=0.99778, ge=0, lt=1)
    """Decay a step of the generator's moving average, which is what generates [released code: 0.5^(32/10000)]."""
    augment: Literal["none", "ada"] = "none"
    """What the discriminator sees: images as they are [released code], or adaptively augmented (Karras et al. 2020),
    for classes of few images."""
    ada_target: float = Field(default=0.6, gt=0, lt=1)
    """Of ``ada``: the share of real images that the discriminator is to be sure of [released code]."""
    ada_max: float = Field(default=0.8, gt=0, le=1)
    """Of ``ada``: the probability at most. Ours."""
    ada_images: int = Field(default=500_000, ge=1, le=10_000_000_000)
    """Of ``ada``: images over which the probability may go from 0 to 1 [released code]."""
    ada_every: int = Field(default=8, ge=1, le=100_000_000)
    """Of ``ada``: steps between its changes [released code]."""
    steps: int = Field(default=200_000, ge=1, le=100_000_000)
    """Steps of training [released code]."""
    batch_size: int = Field(default=8, ge=2, le=65_536)
    """Images a step [released code]."""
    lr: float = Field(default=0.002, gt=0, le=1)
    """Of both networks' Adam, before lazy regularisation's factor [released code]."""
    beta2: float = Field(default=0.99, gt=0, lt=1)
    """Of Adam, whose beta1 is 0 [released code]."""
    flip: bool = False
    """Flip real images at random [released code: not]."""
    sample_every: int = Field(default=5000, ge=1, le=100_000_000)
    """Steps between grids of sample images, and between lines of the history. Ours."""
    generate_batch_size: int = Field(default=32, ge=1, le=65_536)
    """Images generated at once. Ours."""
    shard_size: int = Field(default=256, ge=1, le=100_000)
    """Generated images a file, which is what an interruption can lose. Ours."""
    stored_size_px: int | None = Field(default=None, ge=8, le=1024)
    """Size at which generated images are stored; null stores what is generated. Ours: give the originals' size when
    they are small, so that resampling is no shortcut feature."""
    stored_mode: Literal["RGB", "L"] = "RGB"
    """Colour or grey, as the originals are. Ours."""
    compile: bool = False
    """Compile both networks by torch.compile, on a GPU. Ours."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.size_px & (self.size_px - 1):
            yield "size_px", f"{self.size_px} is no power of two; write 32, 64, 128 or 256"
        if self.r_train_low is not None and self.r_train_low > self.r_train:
            yield "r_train_low", f"{self.r_train_low:g} is above r_train, {self.r_train:g}"
        if self.stored_size_px is not None and self.stored_size_px > self.size_px:
            yield "stored_size_px", f"{self.stored_size_px} is larger than size_px, {self.size_px}; images only shrink"


class Merge(Block):
    """How many generated images each tail class gets, and from how many real ones."""

    budget: Literal["fixed", "largest", "median", "number"] = "fixed"
    """``fixed`` adds ``images`` to every tail class [paper]; the others fill tail classes up: to the largest class's
    number of training images, to the median class's, or to ``images``. The others are ours."""
    images: int = Field(default=7000, ge=1, le=1_000_000)
    """Generated images that ``fixed`` adds to a class, or images that ``number`` fills it up to
    [paper: 7000 for DIOR, by its README]."""
    per_source: int = Field(default=5, ge=1, le=1_000_000)
    """Generated images of each real one in a row; when all real images of a class have had theirs, it begins again
    with other noise [released code]."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.budget in ("largest", "median") and self.images != 7000:
            yield "images", f"has no effect on budget '{self.budget}'; remove it"


class Classifier(Backbone):
    """The network that is trained on originals and generated images, and its control on originals alone."""

    epochs: int = Field(default=50, ge=1, le=100_000)
    """Passes over an arm's images [released code]."""
    equal_steps: bool = False
    """The control takes as many steps as the other arm, by passing over its images more often; else each arm passes
    ``epochs`` times over its own, the control over fewer [released code]. Ours: what generated images are worth."""
    sampler: Literal["instance", "balanced"] = "instance"
    """Every image equally often [released code], or a class evenly, then one of its images. Ours."""
    control: bool = True
    """Also train the control: the same network on originals alone [paper: the comparison]."""


class Measure(Block):
    """What is measured of the generated images, beside what the classifier gains."""

    enabled: bool = True
    """False leaves it out. Ours."""
    max_images: int = Field(default=1000, ge=2, le=1_000_000)
    """Generated images of a class, and real ones, that are measured at most: a seeded sample. Ours."""
    kid_subsets: int = Field(default=100, ge=1, le=100_000)
    """Subsets whose mean is the kernel distance (Binkowski et al. 2018). Ours: their number."""
    kid_subset_size: int = Field(default=1000, ge=2, le=1_000_000)
    """Images of a subset, or all where there are fewer. Ours: their number."""
    batch_size: int = Field(default=64, ge=1, le=65_536)
    """Images that CLIP sees at once. Ours."""
