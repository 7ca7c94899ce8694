"""Block of TGN's other generator, "TGN-style, diffusion": SDXL with a LoRA on the tail classes.

The paper's generator is a GAN (block ``cdtg``); this one carries over its ideas. A real image's KMDN features condition
generation, noise is mixed into them by r, images can start from real ones by ``strength``, and CLIP or the tail network
must recognise the class. IP-Adapter: Ye et al. 2023, arXiv:2308.06721; SDXL: Podell et al. 2023, arXiv:2307.01952.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ltgc_local.recipe.block import Conflict, StoredMode, StoredSize, stored_size_conflicts
from ltgc_local.recipe.learning import TrainingOptions
from ltgc_local.recipe.markers import PAPER, Runtime, Shapes


class Diffusion(TrainingOptions):
    """SDXL with a LoRA on the tail classes, and with the tail network's features in its cross-attention.

    e' = (1 - r) e + r n, where e are a real image's features and n is noise with the mean of their class and their own
    scale.
    """

    lora_rank: int = Field(default=16, ge=1, le=512)
    """Rank of the UNet's LoRA. (The paper's generator has none.)"""
    lora_alpha: float = Field(default=16.0, gt=0, le=10_000)
    """The LoRA's update is scaled by alpha / rank."""
    lora_targets: Literal["attention", "cross_attention"] = "attention"
    """Whose to_q, to_k, to_v and to_out.0 the LoRA adapts: all attention, or the attention to the prompt."""
    conditioning: Annotated[Literal["none", "features"], PAPER, Shapes("train", "draw")] = "features"
    """How a real image conditions generation: not at all, or by the tail network's features (``kmdn.feature``, averaged
    over positions), as tokens that the cross-attention reads with the prompt. The paper's generator takes such
    features."""
    tokens: int = Field(default=4, ge=1, le=64)
    """Tokens per image's features. The number is IP-Adapter's."""
    r_train: float = Field(default=0.5, ge=0, le=1)
    """Largest fraction of noise in the features during training; each image's is uniform from 0 to this."""
    sampler: Literal["instance", "balanced"] = "balanced"
    """How training images are sampled: each equally often, or a class uniformly and then one of its images."""
    size_px: Annotated[int, Shapes("train", "draw")] = Field(default=512, ge=8, le=2048, multiple_of=8)
    """Width and height for training and generation; images are cropped to squares. SDXL's own 1024 costs four times as
    much, and crops of aerial images are small."""
    steps: int = Field(default=2000, ge=1, le=100_000_000)
    """Training steps."""
    batch_size: int = Field(default=8, ge=1, le=65_536)
    """Images per step."""
    lr: float = Field(default=1e-4, gt=0, le=1)
    """Learning rate of AdamW, with cosine decay. The default is the usual one for a LoRA on SDXL."""
    warmup_steps: int = Field(default=100, ge=0, le=100_000_000)
    """Steps of learning-rate warm-up."""
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    """Weight decay of AdamW. The default is torch's."""
    prompt_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of prompts that training leaves empty, as guidance requires. The default is the usual one."""
    feature_dropout: float = Field(default=0.05, ge=0, lt=1)
    """Fraction of features that training leaves out, as in IP-Adapter, but independently of the prompts."""
    gradient_checkpointing: Annotated[bool, Runtime()] = False
    """Recompute activations in the backward pass to save memory."""
    log_every: int = Field(default=100, ge=1, le=100_000_000)
    """Steps between lines of the history."""
    prompts: Annotated[Literal["classes"], PAPER, Shapes("draw")] = "classes"
    """What images are generated from: ``split.prompt`` of the class, or LTGC's extended descriptions of it, made by the
    blocks describe and extend and their two models. Training always uses the class prompts."""
    r: Annotated[float, Shapes("draw")] = Field(default=0.2, ge=0, le=1)
    """Fraction of noise in the features during generation. (The released code's 0.05 is for another generator.)"""
    feature_scale: Annotated[float, Shapes("draw")] = Field(default=1.0, ge=0, le=10)
    """Weight of the attention to the features relative to the prompt's; 0 ignores them."""
    strength: Annotated[Annotated[float, Field(gt=0, le=1)] | Literal["from_r"] | None, Shapes("draw")] = Field(
        default=None, json_schema_extra={"expected": "a number above 0, at most 1, or 'from_r'"}
    )
    """Start each image from its real one with this fraction of the steps' noise (img2img). ``from_r`` takes the
    fraction at which the noise has amplitude r; that is not r itself: 0.05 gives 0.004. null starts from noise alone.
    (The paper has no img2img.)"""
    draw_steps: Annotated[int, Shapes("draw")] = Field(default=30, ge=1, le=1000)
    """Denoising steps."""
    guidance: Annotated[float, Shapes("draw")] = Field(default=5.0, ge=0, le=50)
    """Classifier-free guidance for prompt and features together; 1 or less is none."""
    negative_prompt: Annotated[str, Shapes("draw")] = ""
    """What guidance steers away from."""
    accept: Annotated[Literal["none", "clip", "tail_network", "either"], Shapes("accept")] = "either"
    """What an image must pass: nothing; CLIP finds its class's prompt closest among ALL classes'; the tail network
    gives its class ``accept_probability`` among the tail's; or either of the two. (The paper uses both as losses.)"""
    accept_probability: Annotated[float, Shapes("accept")] = Field(default=0.5, ge=0, le=1)
    """For ``tail_network`` and ``either``: probability that the tail network must give an image's class."""
    attempts: Annotated[int, Shapes("retry")] = Field(default=3, ge=1, le=20)
    """Most attempts at an image, including the first, each with different noise; if all fail, it is left out."""
    draw_batch_size: Annotated[int, Runtime()] = Field(default=8, ge=1, le=65_536)
    """Images generated at once."""
    accept_batch_size: Annotated[int, Runtime()] = Field(default=64, ge=1, le=65_536)
    """Images per batch of CLIP and the tail network."""
    shard_size: Annotated[int, Shapes("draw", "accept", "collect")] = Field(default=64, ge=1, le=100_000)
    """Generated images per file, which is what an interruption can lose."""
    stored_size_px: Annotated[StoredSize, Shapes("draw")] = None
    stored_mode: Annotated[StoredMode, Shapes("draw")] = "RGB"
    compile: Annotated[Literal["none", "regional", "full"] | None, Runtime()] = None
    """What torch compiles for generation; as ``draw.compile``."""

    @property
    def judges_by_clip(self) -> bool:
        return self.accept in ("clip", "either")

    @property
    def judges_by_tail_network(self) -> bool:
        return self.accept in ("tail_network", "either")

    @property
    def reads_source(self) -> bool:
        """Whether a generated image depends on its real one."""
        has_features = self.conditioning == "features" and self.r < 1 and self.feature_scale > 0
        return self.strength is not None or has_features

    def conflicts(self) -> Iterator[Conflict]:
        yield from stored_size_conflicts(self.size_px, self.stored_size_px)
        if isinstance(self.strength, float) and int(self.draw_steps * self.strength) < 1:
            less = f"{self.strength:g} of {self.draw_steps} steps is less than one step"
            yield "strength", f"{less}; raise it or draw_steps"
        if self.strength == "from_r" and self.r == 0:
            yield "strength", "'from_r' of r 0 adds no noise, so nothing is generated; raise r or give a number"
        if self.guidance <= 1 and self.negative_prompt:
            without = f"has no effect at guidance {self.guidance:g}"
            yield "negative_prompt", f"{without}; raise guidance above 1 or remove it"


class DescribedDiffusion(Diffusion):
    """The same generator, with prompts from descriptions."""

    prompts: Annotated[Literal["descriptions"], Shapes("draw")] = "descriptions"  # type: ignore[assignment]
