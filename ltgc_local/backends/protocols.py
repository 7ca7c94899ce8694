"""What the stages need of a model. A backend is one final class that fulfils one of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

if TYPE_CHECKING:
    import torch
    from PIL import Image


#: For chat templates: a model that may think aloud first (Qwen3) answers at once. Templates that know no such thing
#: ignore it. Thinking would use up the tokens of a reply, whose form is all that is asked for.
NO_THINKING = {"enable_thinking": False}


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str


Conversation = Sequence[Message]


@dataclass(frozen=True)
class Sampling:
    """How a reply is decoded. ``temperature`` 0 is greedy. ``seed`` fixes one call, batch and all."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class FewStep:
    """How a distilled text-to-image checkpoint wants to be drawn with; from its card, whose field documents it."""

    steps: tuple[int, ...]
    guidance: float = 0.0
    scheduler: str | None = None
    timestep_spacing: str | None = None
    lora: str | None = None


@dataclass(frozen=True)
class LoadSettings:
    """Where and how weights are put: device ``cpu`` or ``cuda``, dtype a torch name or ``auto``, bitsandbytes bits.

    ``max_model_len`` (tokens of prompt and reply) is vLLM's; ``tensor_parallel`` GPUs share one vlm or llm;
    ``max_pixels`` bounds the pictures that a vlm sees: pictures with more pixels are shrunk. A t2i has the rest:
    ``compile`` (None: as suits the device), ``few_step`` of a distilled checkpoint, the file in which batches that
    fit into memory are remembered (None: nowhere), the file of an ``AdapterLearner`` that changes what it draws,
    bitsandbytes bits of its text encoders (None: whole), the format of its UNet's matrices (None: the dtype), and the
    folder within its own of what decodes in its VAE's place.
    """

    device: str = "cpu"
    dtype: str = "auto"
    quantization: Literal["none", "4bit", "8bit"] = "none"
    max_model_len: int = 4096
    tensor_parallel: int = 1
    max_pixels: int = 1024 * 1024
    compile: Literal["none", "regional", "full"] | None = None
    few_step: FewStep | None = None
    batch_sizes: Path | None = None
    adapter: Path | None = None
    text_encoders: Literal["8bit"] | None = None
    unet: Literal["fp8"] | None = None
    tiny_decoder: str | None = None


class VisionLanguageModel(Protocol):
    """Role ``vlm``."""

    def describe(
        self,
        images: Sequence[Image.Image],
        conversations: Sequence[Conversation],
        sampling: Sampling,
        schema: dict[str, Any] | None = None,
    ) -> list[str]:
        """Reply to each conversation, whose first turn is about the image of the same index.

        Where the backend can, decoding is constrained to the JSON ``schema``.
        """
        ...


class LanguageModel(Protocol):
    """Role ``llm``."""

    def reply(
        self, conversations: Sequence[Conversation], sampling: Sampling, schema: dict[str, Any] | None = None
    ) -> list[str]:
        """Reply to each conversation; where the backend can, decoding is constrained to the JSON ``schema``."""
        ...


@dataclass(frozen=True)
class DrawSettings:
    """What all drawings of a call share.

    Size in pixels of the drawn square, denoising steps, guidance scale, negative prompt, and img2img's strength in
    (0, 1]: the share of the steps that are done where an image starts from another. Guidance is applied on the steps
    whose share of all is in ``guidance_interval`` [from, to). ``cache_interval`` 1 computes the whole UNet at every
    step, k only at every k-th. ``batch_size`` is how many are drawn at once at most. ``feature_scale`` weighs the
    attention to drawings' features beside that to their prompts.
    """

    size_px: int
    steps: int
    guidance: float
    negative_prompt: str = ""
    strength: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    cache_interval: int = 1
    batch_size: int = 8
    feature_scale: float = 1.0


@dataclass(frozen=True)
class Drawing:
    """One image that is wanted; ``source`` is the image that it starts from, None: from noise alone.

    ``features`` (F,) steer the drawing through an adapter that was trained with such features; None: they do not.
    """

    prompt: str
    seed: int
    source: Image.Image | None = None
    features: torch.Tensor | None = None


class TextToImageModel(Protocol):
    """Role ``t2i``."""

    def draw(self, wanted: Sequence[Drawing], settings: DrawSettings) -> Iterator[tuple[int, Image.Image]]:
        """Draw each; yield (its index in ``wanted``, the image) as batches are finished, in any order.

        An image's noise comes from its seed alone, whatever the batch. A source is cropped around its middle to a
        square and brought to ``settings.size_px``. An image that could not be drawn (not a number, even in float32)
        comes out black.

        Raises:
            BackendError: not even one image fits into the memory.
        """
        ...

    def strength_of(self, noise_share: float) -> float:
        """Return the img2img strength at which noise has this share of the amplitude: s / (a + s) of a x + s n."""
        ...

    def learner(self, settings: AdapterSettings, prompts: Sequence[str]) -> AdapterLearner:
        """Freeze the model, and return what trains an adapter of it with these prompts; the model draws no more."""
        ...


@dataclass(frozen=True)
class AdapterSettings:
    """What is trained of a text-to-image model: a LoRA on its attentions, and tokens of features beside the prompt.

    ``feature_size`` F is None where there are no features; ``cross_attention`` leaves self-attention as it is.
    """

    lora_rank: int
    lora_alpha: float
    cross_attention: bool
    feature_size: int | None
    num_tokens: int
    size_px: int
    gradient_checkpointing: bool = False


class AdapterLearner(Protocol):
    """A text-to-image model whose adapter trains; all else of it is frozen."""

    @property
    def device(self) -> torch.device: ...

    @property
    def num_timesteps(self) -> int:
        """Steps of the noise schedule; time steps are from 0 to one less."""
        ...

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What trains, by name, in float32."""
        ...

    def encode_images(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> torch.Tensor:
        """Return latents (B, 4, h, w) of images cropped to squares, float32, on the CPU."""
        ...

    def loss(
        self,
        latents: torch.Tensor,
        labels: torch.Tensor,
        features: torch.Tensor | None,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
    ) -> torch.Tensor:
        """Return the mean squared error of what the model predicts of noised latents: their noise, or their velocity.

        Args:
            latents, noise: (B, 4, h, w).
            labels: (B,), places among the learner's prompts; -1 is the prompt that guidance moves away from.
            features: (B, F); a row of NaN leaves its image's features out. None where there are none.
            timesteps: (B,).
        """
        ...

    def check_gradients(self) -> None:
        """Check after a backward pass that exactly ``parameters`` have gradients, and nothing else trains.

        Raises:
            BackendError: names the parameters that are wrong.
        """
        ...

    def adapter(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Return the weights and the metadata of the file that ``LoadSettings.adapter`` reads."""
        ...


class ClipModel(Protocol):
    """Role ``clip``."""

    device: str

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Encode images as unit rows (N, D), float32, on the CPU."""
        ...

    @property
    def resize(self) -> Callable[[Image.Image], Image.Image]:
        """The part of the preprocessing that gives RGB images still, at the tower's size; it pickles."""
        ...

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode resized images (N, 3, H, W) uint8 as unit rows (N, D), float32, on the CPU."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Encode texts, cut to the model's context, as unit rows (N, D), float32, on the CPU."""
        ...


class ImageReader(Protocol):
    """What reads images as numbers: the device that it is on, and its normalisation."""

    @property
    def device(self) -> str: ...

    @property
    def normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and std (1, 3, 1, 1) of images in [0, 1]."""
        ...


class TrainableClip(ClipModel, Protocol):
    """Role ``clip`` as training and evaluation use it: the vision tower by itself, and what it reads."""

    @property
    def visual(self) -> torch.nn.Module:
        """The vision tower: normalised images (B, 3, H, W) -> features (B, D), not of unit length.

        Its ``set_grad_checkpointing(True)`` recomputes each block's activations in the backward pass.
        """
        ...

    @property
    def logit_scale(self) -> float:
        """The factor of cosines that CLIP was trained with: 1 / temperature."""
        ...

    @property
    def lora_targets(self) -> Mapping[str, str]:
        """Value of ``train.lora_targets`` -> regular expression of the tower's modules that LoRA adapts."""
        ...

    @property
    def normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and std (1, 3, 1, 1) of images in [0, 1]."""
        ...

    @property
    def preprocessing(self) -> str:
        """What ``resize`` does, as a text that is the same for the same folder: the key of decoded images."""
        ...
