"""Block of TGN's other generator, "TGN-style, diffusion": SDXL with a LoRA on the tail classes.

This is not the paper's generator, which is a GAN (block ``cdtg``): what is carried over are its parts. A real image's
KMDN features steer the drawing, noise is mixed into them by r, images start from real ones by ``strength``, and CLIP or
the tail network must give an image its class. IP-Adapter: Ye et al. 2023, arXiv:2308.06721; SDXL: Podell et al. 2023,
arXiv:2307.01952.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ltgc_local.recipe.learning import TrainingOptions
from ltgc_local.recipe.markers import PAPER, Runtime, Shapes

Strength = Annotated[float, Field(gt=0, le=1)]


class Diffusion(TrainingOptions):
    """SDXL with a LoRA on the tail classes, and with the tail network's features in its cross-attention.

    e' = (1 - r) e + r n, e a real image's features and n noise at their class's mean and their own scale.
    """

    lora_rank: int = Field(default=16, ge=1, le=512)
    """Rank of the UNet's LoRA. (The paper's generator has none.)"""
    lora_alpha: float = Field(default=16.0, gt=0, le=10_000)
    """The LoRA's products count alpha / rank times."""
    lora_targets: Literal["attention", "cross_attention"] = "attention"
    """Whose to_q, to_k, to_v and to_out.0 the LoRA adapts: every attention's, or those that read the prompt."""
    conditioning: Annotated[Literal["none", "features"], PAPER, Shapes("train", "draw")] = "features"
    """What a real image steers by: nothing, or the tail network's features (``kmdn.feature``, averaged over places) as
    tokens that the cross-attention reads along with the prompt. In the paper a real image's features enter the
    generator."""
    tokens: int = Field(default=4, ge=1, le=64)
    """Tokens that an image's features become. The number is IP-Adapter's."""
    r_train: float = Field(default=0.5, ge=0, le=1)
    """Share of noise in the features while training at most: drawn evenly from 0 to this for each image."""
    sampler: Literal["instance", "balanced"] = "balanced"
    """How training images are drawn: each equally often, or a class evenly, then its images."""
    size_px: Annotated[int, Shapes("train", "draw")] = Field(default=512, ge=8, le=2048, multiple_of=8)
    """Width and height that are trained on and drawn; images are cropped to squares. SDXL's own 1024 costs four times
    as much, and crops of aerial images are small."""
    steps: int = Field(default=2000, ge=1, le=100_000_000)
    """Steps of training."""
    batch_size: int = Field(default=8, ge=1, le=65_536)
    """Images per step."""
    lr: float = Field(default=1e-4, gt=0, le=1)
    """Learning rate of AdamW; falls by half a cosine. The default is the usual one of a LoRA on SDXL."""
    warmup_steps: int = Field(default=100, ge=0, le=100_000_000)
    """Steps over which the rate rises."""
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    """Weight decay of AdamW. The default is torch's."""
    prompt_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts that training leaves empty, which guidance needs. The default is the usual share."""
    feature_dropout: float = Field(default=0.05, ge=0, lt=1)
    """Share of the features that training leaves out, as in IP-Adapter, but drawn independently of the prompts."""
    gradient_checkpointing: Annotated[bool, Runtime()] = False
    """Compute activations again in the backward pass, for less memory."""
    log_every: int = Field(default=100, ge=1, le=100_000_000)
    """Steps between lines of the history."""
    prompts: Annotated[Literal["classes"], PAPER, Shapes("draw")] = "classes"
    """What is drawn: ``split.prompt`` of the class, or LTGC's extended descriptions of it, by the blocks describe and
    extend and their two models. Training's prompts are the classes' in any case."""
    r: Annotated[float, Shapes("draw")] = Field(default=0.2, ge=0, le=1)
    """Share of noise in the features while drawing. (The released code's 0.05 is of another generator.)"""
    feature_scale: Annotated[float, Shapes("draw")] = Field(default=1.0, ge=0, le=10)
    """Weight of the features' attention relative to the prompt's; 0 draws without."""
    strength: Annotated[Strength | Literal["from_r"] | None, Shapes("draw")] = Field(
        default=None, json_schema_extra={"expected": "a number above 0, at most 1, or 'from_r'"}
    )
    """Start each image from its real one, noised so far that this share of the steps is done (img2img); ``from_r``
    takes the share where noise has the amplitude r, which is not r itself: 0.05 gives 0.004. null starts from noise
    alone. (The paper has no img2img.)"""
    draw_steps: Annotated[int, Shapes("draw")] = Field(default=30, ge=1, le=1000)
    """Denoising steps."""
    guidance: Annotated[float, Shapes("draw")] = Field(default=5.0, ge=0, le=50)
    """Classifier-free guidance, of prompt and features together; at 1 or less there is none."""
    negative_prompt: Annotated[str, Shapes("draw")] = ""
    """What the guidance moves away from."""
    accept: Annotated[Literal["none", "clip", "tail_network", "either"], Shapes("accept")] = "either"
    """What an image must pass: nothing; CLIP finds its class's prompt closest among ALL classes'; the tail network
    gives its class ``accept_probability`` among the tail's; or one of the two. (The paper trains by both.)"""
    accept_probability: Annotated[float, Shapes("accept")] = Field(default=0.5, ge=0, le=1)
    """Probability that the tail network must give an image's class, for ``tail_network`` and ``either``."""
    attempts: Annotated[int, Shapes("retry")] = Field(default=3, ge=1, le=20)
    """Attempts at an image at most, the first included, each of other noise; then it is left out."""
    draw_batch_size: Annotated[int, Runtime()] = Field(default=8, ge=1, le=65_536)
    """Images drawn at once."""
    accept_batch_size: Annotated[int, Runtime()] = Field(default=64, ge=1, le=65_536)
    """Images that CLIP and the tail network see at once."""
    shard_size: Annotated[int, Shapes("draw", "accept", "collect")] = Field(default=64, ge=1, le=100_000)
    """Drawn images per file, which is what an interruption can lose."""
    stored_size_px: Annotated[int | None, Shapes("draw")] = Field(default=None, ge=8, le=2048)
    """Size at which images are stored; null stores what is drawn. Give the originals' size when they are small, so that
    resampling is no shortcut feature."""
    stored_mode: Annotated[Literal["RGB", "L"], Shapes("draw")] = "RGB"
    """Colour or grey, as the originals are."""
    compile: Annotated[Literal["none", "regional", "full"] | None, Runtime()] = None
    """What torch compiles for drawing; as ``draw.compile``."""

    @property
    def judges_by_clip(self) -> bool:
        return self.accept in ("clip", "either")

    @property
    def judges_by_tail_network(self) -> bool:
        return self.accept in ("tail_network", "either")

    @property
    def reads_source(self) -> bool:
        """Return whether anything of an image's real one enters it."""
        has_features = self.conditioning == "features" and self.r < 1 and self.feature_scale > 0
        return self.strength is not None or has_features

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.stored_size_px is not None and self.stored_size_px > self.size_px:
            yield "stored_size_px", f"{self.stored_size_px} is larger than size_px, {self.size_px}; images only shrink"
        if isinstance(self.strength, float) and int(self.draw_steps * self.strength) < 1:
            yield (
                "strength",
                f"{self.strength:g} of {self.draw_steps} steps is less than one step; raise it or draw_steps",
            )
        if self.strength == "from_r" and self.r == 0:
            yield "strength", "'from_r' of r 0 adds no noise, so that nothing is drawn; raise r or give a number"
        if self.guidance <= 1 and self.negative_prompt:
            yield (
                "negative_prompt",
                f"has no effect at guidance {self.guidance:g}; raise guidance above 1 or remove it",
            )


class DescribedDiffusion(Diffusion):
    """The same, drawn from descriptions."""

    prompts: Annotated[Literal["descriptions"], Shapes("draw")] = "descriptions"  # type: ignore[assignment]
