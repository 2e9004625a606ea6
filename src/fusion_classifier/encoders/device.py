# ruff: noqa: PLC0415 - torch takes seconds to import, and `fec encoders` does not need it
"""Choice of device and precision."""

import os
from typing import TYPE_CHECKING

from fusion_classifier.config import Device, Dtype
from fusion_classifier.errors import UsageError

if TYPE_CHECKING:
    import torch


def resolve_device(device: Device) -> "torch.device":
    """The device of this name; `auto` is CUDA, else Apple's MPS, else the CPU."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[device]:
        have = ", ".join(name for name, there in available.items() if there)
        raise UsageError(f"`device`: {device} is not available (available: {have}); use auto")
    if device == "cuda":
        # Training needs it, but torch reads it only at the first matrix product of the process: that of an encoder.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device(device)


def resolve_dtype(dtype: Dtype, device: "torch.device") -> str:
    """Name of the precision; `auto` is bfloat16 if the processor supports it, otherwise float32.

    Never float16 by default, because Llama-2 overflows in float16.
    """
    if dtype != "auto":
        return dtype
    return "bfloat16" if _has_bfloat16(device) else "float32"


def _has_bfloat16(device: "torch.device") -> bool:
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Every CPU can emulate bfloat16, many times slower than float32; these support it natively.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False
