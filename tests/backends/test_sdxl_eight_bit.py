"""SDXL's text encoders in 8 bit by bitsandbytes: nearly the same embeddings and images in half the memory, on a CPU.

Tolerances: embeddings of the miniature within 3 % of their length (1.5 % was found), pictures within 2 grey levels on
average (0.23), where another seed gives 31.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltgc_local.backends.protocols import DrawSettings, T2iOptions
from ltgc_local.backends.registry import load_model
from ltgc_local.backends.sdxl.engine import DiffusersSdxl
from ltgc_local.backends.sdxl.prompts import places_of_weights, put
from ltgc_local.errors import BackendError
from tests.backends.sdxl_stock import FOLDER, PROMPTS, WANTED, difference, draw_ours

ENCODERS = ("text_encoder", "text_encoder_2")
SETTINGS = DrawSettings(size_px=32, steps=8, guidance=7.0)


@pytest.fixture(scope="module")
def quantised() -> DiffusersSdxl:
    return DiffusersSdxl(FOLDER, T2iOptions(text_encoders="8bit"))


def encoders(model: DiffusersSdxl) -> list[Any]:
    return [getattr(model._pipeline, name) for name in ENCODERS]


def embeddings(model: DiffusersSdxl) -> list[torch.Tensor]:
    model._prompts._known = {}
    with torch.inference_mode():
        model._prompts.prepare(PROMPTS, "")
    rows = model._prompts.rows(PROMPTS)
    return [rows.hidden, rows.pooled]


def test_the_encoders_are_in_8_bit_and_half_as_large(whole: DiffusersSdxl, quantised: DiffusersSdxl) -> None:
    for encoder, exact in zip(encoders(quantised), encoders(whole), strict=True):
        kinds = [type(module).__name__ for module in encoder.modules()]
        assert kinds.count("Linear8bitLt") == 18, "six a layer; the pooled text's projection stays whole"
        assert encoder.get_memory_footprint() < 0.55 * exact.get_memory_footprint()
    for part in (quantised._pipeline.unet, quantised._pipeline.vae):
        assert not any(type(module).__name__ == "Linear8bitLt" for module in part.modules())


def test_embeddings_and_images_are_nearly_those_of_the_whole_encoders(
    whole: DiffusersSdxl, quantised: DiffusersSdxl
) -> None:
    for found, expected in zip(embeddings(quantised), embeddings(whole), strict=True):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        assert 0 < (found - expected).norm() < 0.03 * expected.norm()
    found, expected = (draw_ours(model, WANTED, SETTINGS) for model in (quantised, whole))
    assert 0 < np.abs(found - expected).mean() < 2
    assert difference(draw_ours(quantised, WANTED, SETTINGS), found) == 0


def test_every_tensor_of_an_encoder_can_be_moved_away_and_back(quantised: DiffusersSdxl) -> None:
    """As a GPU's encoder does: its layers keep no tensor that stays behind."""
    expected = embeddings(quantised)
    for encoder in encoders(quantised):
        held = [(getattr(*places[0]), places) for places in places_of_weights(encoder)]
        for tensor, places in held:
            put(tensor.clone(), places)
        assert not addresses(encoder) & {tensor.data_ptr() for tensor, _ in held}
        with torch.inference_mode():
            encoder(torch.zeros(1, 77, dtype=torch.long))  # after which a layer's weight is its state's
        for tensor, places in held:
            put(tensor, places)
        assert addresses(encoder) == {tensor.data_ptr() for tensor, _ in held}
    for found, before in zip(embeddings(quantised), expected, strict=True):
        assert torch.equal(found, before)


def addresses(encoder: Any) -> set[int]:
    """Return where the numbers of all tensors that an encoder's modules hold in any way are."""
    found = {each.data_ptr() for each in (*encoder.parameters(), *encoder.buffers())}
    for module in encoder.modules():
        for holder in (getattr(module, "state", None), getattr(module, "weight", None)):
            values = vars(holder).values() if holder is not None else ()
            found |= {value.data_ptr() for value in values if isinstance(value, torch.Tensor) and value.numel()}
    return found


def test_encoders_that_are_quantised_already_are_refused(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "sdxl")
    path = tmp_path / "sdxl/text_encoder_2/config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}), encoding="utf-8")
    with pytest.raises(BackendError, match=r"already quantised by bitsandbytes; type --set models\.text_encoders=null"):
        load_model("t2i", "diffusers", tmp_path / "sdxl", T2iOptions(text_encoders="8bit"))
