"""Which processor computes, and in which precision."""

import torch

from fusion_classifier.config import Device, Dtype
from fusion_classifier.errors import UsageError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def resolve_device(device: Device) -> torch.device:
    """The device of this name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: the device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[device]:
        have = ", ".join(name for name, there in available.items() if there)
        raise UsageError(f"device {device} is not available here (there: {have}); use --device auto")
    return torch.device(device)


def resolve_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """The computing precision; `auto` is bfloat16 where the processor computes in it, else float32.

    Never float16 by itself: Llama-2 overflows in it.
    """
    if dtype != "auto":
        return DTYPES[dtype]
    return torch.bfloat16 if _has_bfloat16(device) else torch.float32


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Every CPU can emulate bfloat16, many times slower than float32; these compute in it.
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False
