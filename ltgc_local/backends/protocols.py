"""What the stages need of a model. A backend is one final class that fulfils one of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
class LoadSettings:
    """Where and how weights are put: device ``cpu`` or ``cuda``, dtype a torch name or ``auto``, bitsandbytes bits.

    ``max_model_len`` (tokens of prompt and reply) and ``tensor_parallel`` (GPUs that share one model) are vLLM's;
    ``max_pixels`` bounds the pictures that a vlm sees: pictures with more pixels are shrunk.
    """

    device: str = "cpu"
    dtype: str = "auto"
    quantization: Literal["none", "4bit", "8bit"] = "none"
    max_model_len: int = 4096
    tensor_parallel: int = 1
    max_pixels: int = 1024 * 1024


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
    """Size in pixels of the drawn square, denoising steps, guidance scale, negative prompt, and img2img's strength.

    ``strength`` in (0, 1] is the share of the steps that are done where an image starts from another; 1 does them all.
    """

    size_px: int
    steps: int
    guidance: float
    negative_prompt: str = ""
    strength: float = 1.0


class TextToImageModel(Protocol):
    """Role ``t2i``."""

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], settings: DrawSettings) -> list[Image.Image]:
        """Draw one image a prompt; the noise of image i comes from ``seeds[i]`` alone, whatever the batch."""
        ...

    def draw_from(
        self, sources: Sequence[Image.Image], prompts: Sequence[str], seeds: Sequence[int], settings: DrawSettings
    ) -> list[Image.Image]:
        """Draw one image a prompt, starting from the source of the same index; otherwise as ``draw``.

        A source is cropped around its middle to a square and brought to ``settings.size_px``.
        """
        ...


class ClipModel(Protocol):
    """Role ``clip``."""

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Encode images as unit rows (N, D), float32, on the CPU."""
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

    device: str

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
    def resize(self) -> Callable[[Image.Image], Image.Image]:
        """The part of the preprocessing that gives RGB images still, at the tower's size; it pickles."""
        ...

    @property
    def normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and std (1, 3, 1, 1) of images in [0, 1]."""
        ...

    @property
    def preprocessing(self) -> str:
        """What ``resize`` does, as a text that is the same for the same folder: the key of decoded images."""
        ...
