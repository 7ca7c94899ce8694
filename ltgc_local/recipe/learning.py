"""Blocks of the stages that learn from the images and report on it: train, evaluate, report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from ltgc_local.recipe.block import Block, Conflict
from ltgc_local.recipe.markers import PAPER, Plans, Presents, Runtime, Shapes

Mixing = Literal["balance_mix", "mixup", "union", "replace", "joint", "none"]
Loss = Literal["cross_entropy", "logit_adjustment", "balanced_softmax"]
Prior = Literal["effective", "counts", "originals"]
Sampler = Literal["balanced", "instance"]


class TrainingOptions(Block):
    """What every training has: number format, checkpoints, decoded images."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16`` runs the forward pass under autocast."""
    checkpoint_minutes: Annotated[float, Runtime()] = Field(default=5.0, ge=0)
    """Minutes between checkpoints, from which an interrupted training resumes exactly; 0 writes one every step."""
    in_memory_mib: Annotated[int, Runtime()] = Field(default=2048, ge=0, le=100_000_000)
    """Memory for a split's decoded images, in MiB; a larger split is kept in a file in the run directory."""
    decode_workers: Annotated[int, Runtime()] = Field(default=0, ge=0, le=256)
    """Processes that decode into that file: 1 decodes in the step's own process, 0 takes one per CPU."""


class ImageTraining(TrainingOptions):
    """Training of a network that learns classes from images, with random changes to the images."""

    augment: Literal["none", "flip", "flip_crop", "resized_crop"] = "flip"
    """Random changes of training images: flips; flips with shifts by up to an eighth; or flips with crops of any size
    and shape, for 224 px networks."""
    crop_scale: float = Field(default=0.08, gt=0, le=1)
    """For ``resized_crop``: smallest fraction of the image's area. The default is torchvision's."""
    blur_px: float = Field(default=0.0, ge=0, le=20)
    """Largest standard deviation of a random blur of original and generated images alike, in pixels of the network's
    input, so that sharpness does not tell the two apart."""
    noise: float = Field(default=0.0, ge=0, le=1)
    """Largest standard deviation of random noise on both, as a fraction of the range from black to white."""


class Train(ImageTraining):
    """Fine-tuning CLIP's vision tower with LoRA on mixed original and generated images."""

    control: Annotated[bool, Plans()] = True
    """Also train the control: the same LoRA on the originals alone. (The paper has none.)"""
    epochs: int = Field(default=10, ge=1, le=100_000)
    """Epochs; one is len(D_o) pairs."""
    batch_size: int = Field(default=128, ge=2, le=65_536)
    """Pairs per step."""
    accumulation_steps: int = Field(default=1, ge=1, le=65_536)
    """Parts that a batch is split into to save memory, without changing the step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer of the LoRA and the head."""
    lr: float = Field(default=0.01, gt=0, le=10)
    """Peak learning rate; cosine decay to 0."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of sgd."""
    weight_decay: float = Field(default=5e-4, ge=0, le=10)
    """Weight decay of the optimizer."""
    warmup_steps: int = Field(default=0, ge=0, le=100_000_000)
    """Steps of linear warm-up to ``lr``."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Per-step EMA decay of the trained weights; the average is then what is validated and kept. 0 is off."""
    select: Literal["last", "best_val_all", "best_val_few", "best_val_groups"] = "last"
    """Which epoch's weights are kept, in every arm: the last, or the best on validation images by all, by few, or by
    the mean of many, medium and few."""
    lora_rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the LoRA."""
    lora_alpha: float = Field(default=16.0, gt=0, le=4096)
    """The update is scaled by lora_alpha / lora_rank."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on an adapter's inputs."""
    lora_targets: Literal["attention", "attention+mlp"] = "attention+mlp"
    """Which layers of every visual block are adapted."""
    lora_blocks: int | None = Field(default=None, ge=1, le=10_000)
    """Adapt only this many of the last blocks; the frozen ones below run forward only. null adapts all."""
    head: Literal["text", "frozen_text"] = "text"
    """Cosine classifier initialised with the classes' text features, trained (``text``) or not."""
    head_scale: float = Field(default=25.0, gt=0, le=1000)
    """Factor of the cosine before the softmax."""
    head_lr: float | None = Field(default=None, gt=0, le=10)
    """Learning rate of the head; null takes ``lr``."""
    mixing: Annotated[Mixing, PAPER, Shapes("generated")] = "balance_mix"
    """BalanceMix; Mixup within the union of original and generated images; that union unmixed; originals, some of them
    swapped for generated images of their class, so that no class's share changes (``replace``); part of each batch by
    ``replace`` and the rest by BalanceMix (``joint``); or no generated images. The paper compares the first three."""
    replace_share: Annotated[float, Shapes("generated")] = Field(default=0.5, gt=0, le=1)
    """For ``replace`` and ``joint``: probability that a sampled original is swapped for a generated image of its class,
    where the class has any."""
    joint_share: Annotated[float, Shapes("generated")] = Field(default=0.75, gt=0, lt=1)
    """For ``joint``: share of each batch that is made by ``replace``, rounded to whole images."""
    mix_form: Annotated[Literal["scalar", "mask"], Shapes("generated")] = "scalar"
    """Mix all pixels, or paste a rectangle of the second image with area 1 - lam (CutMix). The paper's bold 1 allows
    both."""
    mix_alpha: Annotated[float, Shapes("generated")] = Field(default=1.0, gt=0, le=100)
    """lam ~ Beta(mix_alpha, mix_beta) per pair; lam is the original's share. (The paper does not state lam.)"""
    mix_beta: Annotated[float | None, Shapes("generated")] = Field(default=None, gt=0, le=100)
    """null takes ``mix_alpha``. D_g's share is mix_beta / (mix_alpha + mix_beta): 9 and 1 give 0.1."""
    real_epochs: int = Field(default=0, ge=0, le=100_000)
    """The last epochs, out of ``epochs``, that train on originals only."""
    last_layer_epochs: int = Field(default=0, ge=0, le=100_000)
    """The last epochs, out of ``real_epochs``, that train the head alone."""
    loss: Loss = "cross_entropy"
    """Soft-label cross-entropy; with the scaled log of ``prior`` added to the logits (Menon et al. 2021); or with the
    log of the class counts added (Ren et al. 2020; the same as ``logit_adjustment`` with ``prior: counts``)."""
    prior: Prior = "effective"
    """For ``logit_adjustment``: the class frequencies in the batches, for BalanceMix q(c) = E[lam] / C
    + (1 - E[lam]) N_c / sum(N); the counts of the images that are sampled from, which is right with ``sampler:
    instance``; or the shares of the originals, whatever the arm trains on. ``joint`` adjusts each of its two parts by
    its own. With ``replace`` and ``sampler: instance`` all three are the originals' shares."""
    prior_scale: float = Field(default=1.0, ge=0, le=10)
    """For ``logit_adjustment``: factor of the log prior; less than 1 leaves the tail some advantage."""
    mix_prior_scale: Annotated[float | None, Shapes("generated")] = Field(default=None, ge=0, le=10)
    """For ``joint`` with ``logit_adjustment``: the same factor for the BalanceMix part; 0 trains that part with plain
    cross-entropy, null takes ``prior_scale``."""
    sampler: Sampler = "balanced"
    """How the control, ``union``, ``mixup`` and ``replace`` sample images: a class uniformly and then one of its
    images, or every image equally often. ``replace`` samples originals and then swaps them, so ``balanced`` gives every
    class the same share. An epoch samples as many images as there are originals."""
    max_imbalance: float | None = Field(default=None, ge=1)
    """Train on a random part of the originals, with at most this many times the smallest class's images in any class;
    null trains on all."""
    compile: Literal["default", "max-autotune-no-cudagraphs"] | None = None
    """torch.compile the training step in this mode: faster on a GPU after a minute or two of compiling, with slightly
    different rounding. null does not compile."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""

    @property
    def num_replacing(self) -> int:
        """How many images of a batch ``joint`` makes by ``replace``: the first ones."""
        return round(self.joint_share * self.batch_size)

    def conflicts(self) -> Iterator[Conflict]:
        if self.head == "frozen_text" and self.head_lr is not None:
            yield "head_lr", "has no effect on head 'frozen_text'; remove it or write 'head: text'"
        if self.mixing == "none" and self.control:
            yield "mixing", "'none' trains the control twice; write 'control: false' or another mixing"
        if self.real_epochs >= self.epochs:
            left = f"{self.real_epochs} of {self.epochs} epochs on originals leave none for generated images"
            yield "real_epochs", f"{left}; write at most {self.epochs - 1}"
        if self.accumulation_steps > self.batch_size:
            yield "accumulation_steps", f"{self.accumulation_steps} parts of {self.batch_size} pairs; write fewer"
        if self.last_layer_epochs > self.real_epochs:
            more = f"{self.last_layer_epochs} is more than real_epochs, {self.real_epochs}"
            yield "last_layer_epochs", f"{more}; the head trains on originals"
        if self.last_layer_epochs and self.head == "frozen_text":
            yield "last_layer_epochs", "head 'frozen_text' does not train; remove it or write 'head: text'"
        yield from self._conflicts_of_mixing()
        unadjusted = f"has no effect on loss '{self.loss}'; remove it or write 'loss: logit_adjustment'"
        if self.prior != "effective" and self.loss != "logit_adjustment":
            yield "prior", f"'{self.prior}' {unadjusted}"
        if self.prior_scale != 1 and self.loss != "logit_adjustment":
            yield "prior_scale", unadjusted
        if self.mix_prior_scale is not None and self.loss != "logit_adjustment":
            yield "mix_prior_scale", unadjusted

    def _conflicts_of_mixing(self) -> Iterator[Conflict]:
        if self.mixing in ("union", "replace", "none"):
            unmixed = f"has no effect on mixing '{self.mixing}', which mixes nothing; remove it"
            if self.mix_form == "mask":
                yield "mix_form", f"'mask' {unmixed}"
            if self.mix_alpha != 1:
                yield "mix_alpha", unmixed
            if self.mix_beta is not None:
                yield "mix_beta", unmixed
        other = f"has no effect on mixing '{self.mixing}'; remove it or write 'mixing: "
        if self.replace_share != 0.5 and self.mixing not in ("replace", "joint"):
            yield "replace_share", f"{other}replace'"
        if self.mixing != "joint":
            if self.joint_share != 0.75:
                yield "joint_share", f"{other}joint'"
            if self.mix_prior_scale is not None:
                yield "mix_prior_scale", f"{other}joint'"
        elif not 0 < self.num_replacing < self.batch_size:
            parts = f"{self.num_replacing} of {self.batch_size} images, so the batch has one part"
            yield "joint_share", f"{self.joint_share:g} is {parts}; write a number nearer to 0.5"


#: Keys of ``train`` that mean something for one way to mix, or for one loss, alone.
OF_MIXING = ("replace_share", "joint_share", "mix_form", "mix_alpha", "mix_beta", "mix_prior_scale")
OF_LOSS = ("prior", "prior_scale", "mix_prior_scale")


class Ensemble(Block):
    """Several trained towers that are averaged, or whose log-probabilities are, and one model that learns from them.

    The first, third, … tower trains as ``train`` says, the second, fourth, … as ``train`` with the keys ``mixing`` to
    ``sampler`` of this block; towers that are trained alike differ by their seed. The control of an ensemble has as
    many towers, each trained like its counterpart but on originals alone.
    """

    towers: Annotated[int, Plans()] = Field(default=1, ge=1, le=8)
    """Towers per arm; 1 is no ensemble. (The paper has one.)"""
    mixing: Annotated[Mixing | None, Plans()] = None
    """``train.mixing`` of every second tower; null is as in ``train``."""
    replace_share: Annotated[float | None, Plans()] = Field(default=None, gt=0, le=1)
    """``train.replace_share`` of every second tower. Where ``mixing`` is given, null takes the default."""
    mix_alpha: Annotated[float | None, Plans()] = Field(default=None, gt=0, le=100)
    """``train.mix_alpha`` of every second tower, likewise."""
    mix_beta: Annotated[float | None, Plans()] = Field(default=None, gt=0, le=100)
    """``train.mix_beta`` of every second tower, likewise."""
    loss: Annotated[Loss | None, Plans()] = None
    """``train.loss`` of every second tower; null is as in ``train``."""
    prior: Annotated[Prior | None, Plans()] = None
    """``train.prior`` of every second tower. Where ``loss`` is given, null takes the default."""
    prior_scale: Annotated[float | None, Plans()] = Field(default=None, ge=0, le=10)
    """``train.prior_scale`` of every second tower, likewise."""
    sampler: Annotated[Sampler | None, Plans()] = None
    """``train.sampler`` of every second tower; null is as in ``train``."""
    zero_shot: Annotated[bool, Shapes("zero_shot")] = False
    """Zero-shot CLIP is one more member of the ensemble, and of its control's."""
    combine: Annotated[Literal["predictions", "towers"], Plans()] = "predictions"
    """Average what the towers say, or the towers themselves, all alike, into one model (a soup, Wortsman et al.
    2022)."""
    head_epochs: Annotated[int, Plans()] = Field(default=2, ge=1, le=100_000)
    """With ``combine: towers``: epochs that then train the head alone, on all originals."""
    subsets: Annotated[bool, Plans()] = False
    """With ``combine: towers``: tower k trains on a part of the originals, with a ``train.max_imbalance`` of 2^(k-1).
    This is LT-Soups, which has two towers each of 1 to 64."""
    weights: Annotated[Literal["validation", "equal"], Shapes("weigh")] = "validation"
    """The members' weights: the best on the validation images, or all equal."""
    maximise: Annotated[Literal["all", "groups"], Shapes("weigh")] = "all"
    """What is best: the accuracy on all validation images, or the mean of many, medium and few."""
    tilt: Annotated[bool, Shapes("weigh")] = False
    """Also choose tau on the validation images and subtract tau log n_c from the logits of class c, which has n_c
    training images; a negative tau favours the head. Of the control likewise."""
    lose_on_many_at_most: Annotated[float | None, Shapes("weigh")] = Field(default=0.5, ge=0, le=100)
    """Weights and tau are refused where the accuracy on the validation images of many-shot classes falls further than
    this below that of the control's first tower, in points, and by more than the standard error of the difference; null
    refuses none, and neither does a recipe without a control. The one model (``distill``) is not checked again."""
    distill: Annotated[bool, Plans()] = False
    """Train one model to predict as the ensemble does (Hinton et al. 2015), so that using it costs one forward pass."""
    distill_mixing: Annotated[Literal["union", "replace", "balance_mix", "mixup", "joint"], Plans()] = "joint"
    """``train.mixing`` of that model: the images on which it learns what the ensemble says."""
    distill_sampler: Annotated[Sampler, Plans()] = "instance"
    """``train.sampler`` of that model."""
    distill_epochs: Annotated[int | None, Plans()] = Field(default=None, ge=1, le=100_000)
    """``train.epochs`` of that model; null is as in ``train``. A student learns from more than its teachers trained for
    (Beyer et al. 2022)."""
    distill_from: Annotated[Literal["clip", "tower"], Shapes("distill")] = "tower"
    """What that model starts from: CLIP's own weights, or those of the tower that counts most, which takes half the
    epochs."""
    distill_label_weight: Annotated[float, Shapes("distill")] = Field(default=0.0, ge=0, lt=1)
    """Weight of the true labels, by ``train.loss``, beside the ensemble's predictions."""
    distill_temperature: Annotated[float, Shapes("distill")] = Field(default=1.0, gt=0, le=100)
    """The temperature of the ensemble's predictions and of the model's; more makes rare mistakes count more."""

    def conflicts(self) -> Iterator[Conflict]:
        if self.is_soup:
            for key in ("zero_shot", "tilt", "distill"):
                if getattr(self, key):
                    yield key, "needs 'combine: predictions': averaged towers are one model; remove one of the two"
        else:
            for key in ("head_epochs", "subsets"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    yield key, "is of towers that are averaged; write 'combine: towers' or remove it"
        if self.towers > 1:
            return
        if self.is_soup:
            yield "combine", "there is one tower; write 'towers: 2' or remove it"
        for key in self.changes:
            yield key, "is of every second tower, and there is one; remove it or write 'towers: 2'"
        if self.distill and not self.zero_shot:
            yield "distill", "needs several members; write 'towers: 2'"
        if self.weights == "equal" and not self.zero_shot:
            yield "weights", "one tower has no weights; remove it or write 'towers: 2'"

    @property
    def changes(self) -> dict[str, Any]:
        """What every second tower changes of ``train``, by its keys, as they are written."""
        keys = ("mixing", "replace_share", "mix_alpha", "mix_beta", "loss", "prior", "prior_scale", "sampler")
        return {key: value for key in keys if (value := getattr(self, key)) is not None}

    @property
    def is_soup(self) -> bool:
        """Whether the towers themselves are averaged."""
        return self.combine == "towers"

    @property
    def is_chosen(self) -> bool:
        """Whether anything is chosen once the towers are trained: weights, or tau."""
        return not self.is_soup and (self.towers > 1 or self.zero_shot or self.tilt)

    def settings_of(self, tower: int) -> dict[str, Any]:
        """Return the keys of ``train`` that a tower, numbered from 0, has values of its own for."""
        if tower % 2 == 0 or not self.changes:
            return {}
        others = (OF_MIXING if self.mixing is not None else ()) + (OF_LOSS if self.loss is not None else ())
        return {key: Train.model_fields[key].default for key in others} | self.changes


class Evaluate(Block):
    """Accuracy on the test split: all, many, medium, few and each class."""

    batch_size: Annotated[int, Runtime()] = Field(default=256, ge=1, le=65_536)
    """Images evaluated at once."""
    shard_size: Annotated[int, Presents(), Shapes("predict")] = Field(default=1024, ge=1, le=1_000_000)
    """Images per file of predictions, which is what an interruption can lose."""
    interval_level: Annotated[float, Presents()] = Field(default=0.95, gt=0.5, lt=1)
    """Level of the confidence intervals. (The paper reports none.)"""
    resamples: Annotated[int, Presents()] = Field(default=2000, ge=100, le=100_000)
    """Bootstrap resamples of the test images."""
    store_logits: Annotated[bool, Presents(), Shapes("predict")] = False
    """Also store every arm's logits for every test image, 2 bytes each: 100 MB per arm for ImageNet-LT."""


class LtgcEvaluate(Evaluate):
    """Evaluation of a CLIP: also before training, with several crops, and against a vlm."""

    zero_shot: Annotated[bool, Plans()] = True
    """Also evaluate CLIP before any training. (The paper takes these numbers from others.)"""
    vlm_classifier: bool = False
    """Also ask the vlm which class each test image shows, as for the paper's Table 3."""
    vlm_images_per_class: int = Field(default=20, ge=1, le=1_000_000)
    """Most test images per class, sampled by seed, that the vlm is asked about; its replies are slow."""
    vlm_names_in_prompt: int = Field(default=100, ge=0, le=1_000_000)
    """With at most this many classes the prompt lists their names. With more the vlm answers freely, and if its answer
    names no class, CLIP's text tower finds the nearest name. (The paper does not say how it asked.)"""
    five_crop: Annotated[bool, Shapes("predict")] = False
    """Also average the logits over five crops (corners and centre) of the enlarged image, as ``five_crop`` of each arm.
    LIFT gains 0.7 to 1.3 points by it."""
    five_crop_margin: Annotated[float, Shapes("predict")] = Field(default=0.107, gt=0, le=1)
    """How much the image is enlarged before cropping, as a fraction of the input size. The default is LIFT's 24 pixels
    at 224."""
    zero_shot_weight: Annotated[float | None, Shapes("predict")] = Field(default=None, gt=0, lt=1)
    """Also ensemble each trained arm with zero-shot CLIP, whose log-probabilities get this weight, as
    ``zero_shot_ensemble`` of the arm; null does not. Choose it on validation images, never on test images."""
    zero_shot_prior: Annotated[Literal["train", "none"], Shapes("predict")] = "train"
    """The class prior that the ensemble removes from zero-shot CLIP: its mean prediction on the training images with
    all classes weighted equally (generalised logit adjustment), or none."""

    def conflicts(self) -> Iterator[Conflict]:
        if self.zero_shot_weight is not None and not self.zero_shot:
            yield "zero_shot_weight", "needs zero-shot CLIP; write 'zero_shot: true'"


class Report(Block):
    """The HTML report."""

    images_per_class: Annotated[int, Presents()] = Field(default=6, ge=1, le=100)
    """Images of each kind in a class's gallery."""
    leak_pairs: Annotated[int, Presents()] = Field(default=6, ge=1, le=100)
    """Closest pairs of images that the leak guard's section shows for each two groups."""
    tensorboard: Annotated[bool, Runtime()] = False
    """Also write each step's metrics as TensorBoard event files in ``<step>/logs/tensorboard``. Needs the package
    ``tensorboard``."""
