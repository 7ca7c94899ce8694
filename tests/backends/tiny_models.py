"""Tiny random models of the architectures that users bring, saved in the layout in which publishers ship them.

Sharded safetensors with an index, configuration, generation configuration, tokenizer or processor, chat template. The
weights are random: these folders show that a model of the family loads and answers, not that it answers well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    SiglipVisionConfig,
)

SOURCE = Path(__file__).resolve().parents[2] / "data/miniatures/qwen2.5-vl"
IMAGE_PX = 56
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
}
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def _tokenizer(*more: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(SOURCE, local_files_only=True)
    if more:
        tokenizer.add_special_tokens({"additional_special_tokens": list(more)}, replace_extra_special_tokens=False)
    return tokenizer


def _text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    return TEXT | ids | {"vocab_size": len(tokenizer)} | more


def _save(model: Any, parts: Any, folder: Path) -> Path:
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.7, top_p=0.8, eos_token_id=parts_tokenizer(parts).eos_token_id
    )
    model.to(torch.float16).save_pretrained(folder, max_shard_size="200KB")
    parts.save_pretrained(folder)
    assert (folder / "model.safetensors.index.json").is_file()
    return folder


def _publish(folder: Path) -> Path:
    """Rename the vision tower's weights from what this transformers saves to what the publishers' files say."""
    index = folder / "model.safetensors.index.json"
    text = index.read_text("utf-8")
    for part in ("embeddings", "encoder", "pre_layrnorm", "post_layernorm"):
        old, new = f"vision_tower.{part}", f"vision_tower.vision_model.{part}"
        text = text.replace(f'"{old}', f'"{new}')
        for shard in folder.glob("*.safetensors"):
            weights = {name.replace(old, new): weight for name, weight in load_file(shard).items()}
            save_file(weights, shard, {"format": "pt"})
    index.write_text(text)
    return folder


def parts_tokenizer(parts: Any) -> Any:
    """Return the tokenizer of a processor, or the tokenizer itself."""
    return getattr(parts, "tokenizer", parts)


def causal(config_class: type, folder: Path) -> Path:
    """Save a causal language model."""
    tokenizer = AutoTokenizer.from_pretrained(SOURCE.parent / "qwen3", local_files_only=True)
    torch.manual_seed(0)
    return _save(AutoModelForCausalLM.from_config(config_class(**_text(tokenizer))), tokenizer, folder)


def qwen_vl(config_class: type, processor_class: type, folder: Path) -> Path:
    """Save a Qwen2-VL or Qwen2.5-VL."""
    tokenizer = _tokenizer()
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{text}|>")
        for name, text in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    vision = {"depth": 2, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2}
    vision |= (
        {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
        if config_class is Qwen2VLConfig
        else {"hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 64, "fullatt_block_indexes": [1]}
    )
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0}
    config = config_class(
        text_config=_text(tokenizer, rope_parameters=rope), vision_config=vision, tie_word_embeddings=False, **ids
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    size = {"shortest_edge": 28 * 28, "longest_edge": 112 * 112}
    images, videos = Qwen2VLImageProcessor(size=size), Qwen2VLVideoProcessor(size=size)
    template = (SOURCE / "chat_template.jinja").read_text("utf-8")
    return _save(model, processor_class(images, tokenizer, videos, chat_template=template), folder)


def llava(folder: Path) -> Path:
    """Save a LLaVA 1.5: CLIP's vision tower and a Llama."""
    tokenizer = _tokenizer("<image>")
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=IMAGE_PX,
        patch_size=14, projection_dim=32,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_text(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(IMAGE_PX // 14) ** 2,
    )
    torch.manual_seed(0)
    square = {"height": IMAGE_PX, "width": IMAGE_PX}
    images = CLIPImageProcessor(size={"shortest_edge": IMAGE_PX}, crop_size=square)
    processor = LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )  # fmt: skip
    _save(AutoModelForImageTextToText.from_config(config), processor, folder)
    return _publish(folder)


def llava_onevision(folder: Path) -> Path:
    """Save a LLaVA OneVision: SigLIP's vision tower and a Qwen2."""
    tokenizer = _tokenizer("<image>", "<video>")
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=IMAGE_PX,
        patch_size=14, vision_use_head=False,
    )  # fmt: skip
    pins = [[IMAGE_PX, IMAGE_PX], [IMAGE_PX, 2 * IMAGE_PX]]
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=Qwen2Config(**_text(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pins,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    torch.manual_seed(0)
    square = {"height": IMAGE_PX, "width": IMAGE_PX}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=square, image_grid_pinpoints=pins),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=square),
        num_image_tokens=(IMAGE_PX // 14) ** 2,
        vision_feature_select_strategy="full",
        chat_template=LLAVA_TEMPLATE,
    )
    _save(AutoModelForImageTextToText.from_config(config), processor, folder)
    return _publish(folder)


LANGUAGE_MODELS: dict[str, Callable[[Path], Path]] = {
    "llama": lambda folder: causal(LlamaConfig, folder),
    "qwen2.5": lambda folder: causal(Qwen2Config, folder),
    "qwen3": lambda folder: causal(Qwen3Config, folder),
}
VISION_LANGUAGE_MODELS: dict[str, Callable[[Path], Path]] = {
    "qwen2-vl": lambda folder: qwen_vl(Qwen2VLConfig, Qwen2VLProcessor, folder),
    "qwen2.5-vl": lambda folder: qwen_vl(Qwen2_5_VLConfig, Qwen2_5_VLProcessor, folder),
    "llava-1.5": llava,
    "llava-onevision": llava_onevision,
}
