"""Block of TGN's other generator, "TGN-style, diffusion": SDXL with a LoRA on the tail classes.

This is not the paper's generator, which is a GAN (block ``cdtg``): what is carried over are its parts. A real image's
KMDN features steer the drawing, noise is mixed into them by r, images start from real ones by ``strength``, and CLIP or
the tail network must give an image its class. Sources: [paper] and [released code] as in ``ltgc_local.recipe.tgn``;
[IP-Adapter] Ye et al. 2023, arXiv:2308.06721; [SDXL] Podell et al. 2023, arXiv:2307.01952.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ltgc_local.recipe.tgn import TrainingOptions

Strength = Annotated[float, Field(gt=0, le=1)]


class Diffusion(TrainingOptions):
    """SDXL with a LoRA on the tail classes, and with the tail network's features in its cross-attention.

    e' = (1 - r) e + r n, e a real image's features and n noise at their class's mean and their own scale.
    """

    lora_rank: int = Field(default=16, ge=1, le=512)
    """Rank of the UNet's LoRA. Ours: the paper's generator has none."""
    lora_alpha: float = Field(default=16.0, gt=0, le=10_000)
    """The LoRA's products count alpha / rank times. Ours."""
    lora_targets: Literal["attention", "cross_attention"] = "attention"
    """Whose to_q, to_k, to_v and to_out.0 the LoRA adapts: every attention's, or those that read the prompt. Ours."""
    conditioning: Literal["none", "features"] = "features"
    """What a real image steers by: nothing, or the tail network's features (``kmdn.feature``, averaged over places) as
    tokens that the cross-attention reads beside the prompt [paper: a real image's features enter the generator]."""
    tokens: int = Field(default=4, ge=1, le=64)
    """Tokens that an image's features become [IP-Adapter]. The number is theirs, that they are KMDN's is ours."""
    r_train: float = Field(default=0.5, ge=0, le=1)
    """Share of noise in the features while training at most: drawn evenly from 0 to this for each image. Ours."""
    sampler: Literal["instance", "balanced"] = "balanced"
    """How training images are drawn: each equally often, or a class evenly, then its images. Ours."""
    size_px: int = Field(default=512, ge=8, le=2048, multiple_of=8)
    """Width and height that are trained on and drawn; images are cropped to squares. Ours: SDXL's own 1024 costs four
    times as much, and crops of aerial images are small."""
    steps: int = Field(default=2000, ge=1, le=100_000_000)
    """Steps of training. Ours."""
    batch_size: int = Field(default=8, ge=1, le=65_536)
    """Images a step. Ours."""
    lr: float = Field(default=1e-4, gt=0, le=1)
    """Learning rate of AdamW; falls by half a cosine. Ours: the usual one of a LoRA on SDXL."""
    warmup_steps: int = Field(default=100, ge=0, le=100_000_000)
    """Steps over which the rate rises. Ours."""
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    """Of AdamW. Ours: torch's default."""
    prompt_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts that training leaves empty, which guidance needs. Ours: the usual share."""
    feature_dropout: float = Field(default=0.05, ge=0, lt=1)
    """Share of the features that training leaves out [IP-Adapter]; drawn independently of the prompts. Ours, that."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, for less memory. Ours."""
    log_every: int = Field(default=100, ge=1, le=100_000_000)
    """Steps between lines of the history. Ours."""
    prompts: Literal["classes"] = "classes"
    """What is drawn: ``split.prompt`` of the class [paper], or LTGC's extended descriptions of it, by the blocks
    describe and extend and their two models. Ours. Training's prompts are the classes' in any case."""
    r: float = Field(default=0.2, ge=0, le=1)
    """Share of noise in the features while drawing. Ours: the released code's 0.05 is of another generator."""
    feature_scale: float = Field(default=1.0, ge=0, le=10)
    """Weight of the features' attention beside the prompt's; 0 draws without. Ours."""
    strength: Strength | Literal["from_r"] | None = Field(
        default=None, json_schema_extra={"expected": "a number above 0, at most 1, or 'from_r'"}
    )
    """Start each image from its real one, noised so far that this share of the steps is done (img2img); ``from_r``
    takes the share where noise has the amplitude r, which is not r itself: 0.05 gives 0.004. null starts from noise
    alone. Ours: the paper has no img2img."""
    draw_steps: int = Field(default=30, ge=1, le=1000)
    """Denoising steps. Ours."""
    guidance: float = Field(default=5.0, ge=0, le=50)
    """Classifier-free guidance, of prompt and features together; at 1 or less there is none. Ours."""
    negative_prompt: str = ""
    """What the guidance moves away from. Ours."""
    accept: Literal["none", "clip", "tail_network", "either"] = "either"
    """What an image must pass: nothing; CLIP finds its class's prompt closest among ALL classes'; the tail network
    gives its class ``accept_probability`` among the tail's; or one of the two. Ours: the paper trains by both."""
    accept_probability: float = Field(default=0.5, ge=0, le=1)
    """For ``tail_network`` and ``either``. Ours."""
    attempts: int = Field(default=3, ge=1, le=20)
    """Drawings of an image at most, the first included, each of other noise; then it is left out. Ours."""
    draw_batch_size: int = Field(default=8, ge=1, le=65_536)
    """Images drawn at once. Ours."""
    accept_batch_size: int = Field(default=64, ge=1, le=65_536)
    """Images that CLIP and the tail network see at once. Ours."""
    shard_size: int = Field(default=64, ge=1, le=100_000)
    """Drawn images a file, which is what an interruption can lose. Ours."""
    stored_size_px: int | None = Field(default=None, ge=8, le=2048)
    """Size at which images are stored; null stores what is drawn. Ours: give the originals' size when they are small,
    so that resampling is no shortcut feature."""
    stored_mode: Literal["RGB", "L"] = "RGB"
    """Colour or grey, as the originals are. Ours."""
    compile: Literal["none", "regional", "full"] | None = None
    """What torch compiles for drawing; as ``draw.compile``. Ours."""

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

    prompts: Literal["descriptions"] = "descriptions"  # type: ignore[assignment]
    """As above. Ours."""
