"""Small tensors on their way to a GPU: from page-locked memory, so that nothing waits for the copy."""

from __future__ import annotations

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a CPU tensor to ``device``; one that is there already is returned as it is.

    From pageable memory the CPU would first wait until the GPU has done all that was asked of it before.
    """
    if device.type != "cuda" or tensor.device.type == "cuda":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)
