"""What the stages need from a model, and the options it is loaded with. A backend is one class with one role's methods.

Options are keyword-only dataclasses, one class per role; the recipe and the model's card fill them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ltgc_local.model_store.cards import FewStepCard

#: For chat templates: a model that can think aloud (Qwen3) should reply at once, since thinking would use up the tokens
#: of the reply. Templates without such a switch ignore this.
NO_THINKING = {"enable_thinking": False}


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How any model is loaded."""

    device: str = "cpu"  # or cuda, or auto
    dtype: str = "auto"  # or torch's name of a number format


@dataclass(frozen=True, kw_only=True)
class TextOptions(ModelOptions):
    """How a vlm or llm is loaded."""

    quantization: Literal["none", "4bit", "8bit"] = "none"  # by bitsandbytes
    max_model_len: int = 4096  # tokens of prompt and reply together; for vLLM
    tensor_parallel: int = 1  # GPUs that share the model
    max_pixels: int = 1024 * 1024  # a vlm sees images with more of them shrunk


@dataclass(frozen=True, kw_only=True)
class T2iOptions(ModelOptions):
    """How a t2i is loaded."""

    compile: Literal["none", "regional", "full"] | None = None  # by torch.compile; None: what suits the device
    few_step: FewStepCard | None = None  # of a distilled checkpoint
    batch_sizes: Path | None = None  # file that remembers which batches fit into memory; None: this process does
    adapter: Path | None = None  # file of an ``AdapterLearner``, which changes what the model draws
    text_encoders: Literal["8bit"] | None = None  # their weights, by bitsandbytes; None: whole
    unet: Literal["fp8"] | None = None  # number format of its matrices; None: ``dtype``
    tiny_decoder: str | None = None  # folder in the model's own of what decodes instead of its VAE


@dataclass(frozen=True, kw_only=True)
class BackboneOptions(ModelOptions):
    """How a classification network is built."""

    architecture: str  # timm's name
    num_classes: int
    feature: str | None = None  # module whose maps it returns, such as ``layer3``; None: the last stage
    stem: str = "full"  # or no_pool, or small (see the recipe)
    normalisation: str = "half"  # or what the ``weights`` were trained with


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str


Conversation = Sequence[Message]


@dataclass(frozen=True)
class Sampling:
    """How a reply is decoded. ``temperature`` 0 is greedy. ``seed`` fixes a whole call, including its batches."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass
class TokenCount:
    """Tokens of prompts and replies, since the model was loaded."""

    read: int = 0
    written: int = 0


class ChatModel(Protocol):
    """Roles ``vlm`` and ``llm``.

    Attributes:
        tokens: how many it has read and written.
    """

    tokens: TokenCount

    def reply(
        self,
        conversations: Sequence[Conversation],
        sampling: Sampling,
        schema: dict[str, Any] | None = None,
        images: Sequence[Image.Image] | None = None,
    ) -> list[str]:
        """Reply to each conversation.

        Args:
            schema: JSON schema that decoding is constrained to, where the backend can.
            images: of a vlm, one per conversation, which its first turn is about.
        """
        ...


@dataclass(frozen=True)
class DrawSettings:
    """What all images of a call share."""

    size_px: int  # edge of the square
    steps: int  # of denoising
    guidance: float
    negative_prompt: str = ""
    strength: float = 1.0  # of img2img, in (0, 1]: the share of the steps that are done
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # [from, to) as shares of the steps: the guided ones
    cache_interval: int = 1  # k computes the whole UNet at every k-th step only
    batch_size: int = 8  # images drawn at once at most
    feature_scale: float = 1.0  # weight of the attention to features, relative to that to the prompt


@dataclass(frozen=True)
class Drawing:
    """An image to draw."""

    prompt: str
    seed: int
    source: Image.Image | None = None  # the image that it starts from; None: from noise alone
    features: torch.Tensor | None = None  # (F,), which steer it through an adapter that was trained with such features


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """What is trained of a text-to-image model: a LoRA on its attentions, and tokens of features after the prompt's."""

    lora_rank: int
    lora_alpha: float
    cross_attention: bool  # leaves self-attention as it is
    feature_size: int | None  # F; None: no features
    num_tokens: int
    size_px: int
    gradient_checkpointing: bool = False


class TextToImageModel(Protocol):
    """Role ``t2i``."""

    def draw(self, wanted: Sequence[Drawing], settings: DrawSettings) -> Iterator[tuple[int, Image.Image]]:
        """Draw each image; yield (its index in ``wanted``, the image) as batches are finished, in any order.

        An image's noise depends on its seed alone, whatever the batch. A source is cropped to its central square and
        resized to ``settings.size_px``. An image whose values are not finite, even in float32, comes out black.

        Raises:
            BackendError: not even one image fits into the memory.
        """
        ...

    def strength_of(self, noise_share: float) -> float:
        """Return the img2img strength at which noise has this share of the amplitude: s / (a + s) of a x + s n."""
        ...

    def learner(self, settings: AdapterSettings, prompts: Sequence[str]) -> AdapterLearner:
        """Freeze the model and return what trains an adapter of it with these prompts. The model can draw no more."""
        ...


@dataclass(frozen=True, kw_only=True)
class NoisedBatch:
    """What an adapter's loss is computed from, on the CPU."""

    latents: torch.Tensor  # (B, 4, h, w)
    labels: torch.Tensor  # (B,), indices of the learner's prompts; -1 is the prompt that guidance moves away from
    features: torch.Tensor | None  # (B, F); a row of NaN leaves its image's features out. None: there are none
    noise: torch.Tensor  # (B, 4, h, w)
    timesteps: torch.Tensor  # (B,), in [0, num_timesteps)


class AdapterLearner(Protocol):
    """A frozen text-to-image model with an adapter that trains."""

    @property
    def device(self) -> torch.device: ...

    @property
    def num_timesteps(self) -> int:
        """The length of the noise schedule."""
        ...

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What trains, by name, in float32."""
        ...

    def encode_images(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> torch.Tensor:
        """Return latents (B, 4, h, w) of images cropped to squares, float32, on the CPU; a seed per image."""
        ...

    def loss(self, batch: NoisedBatch) -> torch.Tensor:
        """Return the mean squared error of the model's prediction for noised latents: of their noise or velocity."""
        ...

    def check_gradients(self) -> None:
        """Check after a backward pass that exactly ``parameters`` have gradients, and nothing else trains.

        Raises:
            BackendError: names the parameters that are wrong.
        """
        ...

    def adapter(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Return the weights and the metadata of the file that ``T2iOptions.adapter`` reads."""
        ...


class ImageReader(Protocol):
    """A device, and the normalisation of the images that models there read."""

    @property
    def device(self) -> str: ...

    @property
    def normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and std (1, 3, 1, 1) of images in [0, 1]."""
        ...


class ClipModel(ImageReader, Protocol):
    """Role ``clip``."""

    @property
    def resize(self) -> Callable[[Image.Image], Image.Image]:
        """The part of the preprocessing that returns an RGB image of the tower's size. It can be pickled."""
        ...

    @property
    def preprocessing(self) -> str:
        """Text that identifies what ``resize`` does: the key of cached images."""
        ...

    @property
    def visual(self) -> torch.nn.Module:
        """The vision tower: normalised images (B, 3, H, W) -> features (B, D), not of unit length.

        Its ``set_grad_checkpointing(True)`` recomputes each block's activations in the backward pass.
        """
        ...

    @property
    def logit_scale(self) -> float:
        """The factor for cosines that CLIP was trained with: 1 / temperature."""
        ...

    @property
    def lora_targets(self) -> Mapping[str, str]:
        """Value of ``train.lora_targets`` -> regular expression of the tower's modules that LoRA adapts."""
        ...

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Encode images as unit rows (N, D), float32, on the CPU."""
        ...

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode resized images (N, 3, H, W) uint8 as unit rows (N, D), float32, on the CPU."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Encode texts, cut to the model's context, as unit rows (N, D), float32, on the CPU."""
        ...
