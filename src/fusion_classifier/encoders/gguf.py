# ruff: noqa: PLC0415 - transformers is imported when a model is loaded
"""GGUF files: quantized models in one file, unpacked once.

transformers takes 20 s to unpack even a small GGUF file. So the unpacked model is kept as an ordinary model folder in
the user's cache, identified by the content of the file and the precision, and loaded from there.
"""

from functools import partial
from pathlib import Path
from typing import Any

import platformdirs

from fusion_classifier.encoders.checks.claims import check_claims
from fusion_classifier.encoders.checks.gguf_header import check_header
from fusion_classifier.encoders.weights import Weights
from fusion_classifier.support.attributes import changed
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import atomic_folder

KEEP_BELOW_BYTES = 1 << 30  # unpacked, a larger file would fill the cache with tens of gigabytes


def unpacked(weights: Weights, fingerprint: str, dtype: str) -> Path | None:
    """The folder of a GGUF file's unpacked model, written if it does not exist; None for a file that is too large."""
    assert weights.gguf_file is not None
    if (weights.folder / weights.gguf_file).stat().st_size > KEEP_BELOW_BYTES:
        return None
    folder = Path(platformdirs.user_cache_dir("fec")) / "gguf" / f"{fingerprint[:32]}-{dtype}"
    if not folder.is_dir():
        from safetensors.torch import save_file

        config, tokenizer, model, _ = load_packed(weights, dtype)
        with atomic_folder(folder) as temporary:
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            config.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            # Not model.save_pretrained: transformers rejects it for a model that came from GGUF.
            state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
            save_file(state, temporary / "model.safetensors", metadata={"format": "pt"})
    return folder


def load_packed(weights: Weights, dtype: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Configuration, tokenizer, model and loading report straight from a GGUF file."""
    assert weights.gguf_file is not None
    check_header(weights.folder / weights.gguf_file)
    require(f"{weights.gguf_file}: a GGUF file", "gguf", "gguf", "accelerate")
    import torch
    import transformers.modeling_gguf_pytorch_utils as reader
    from transformers import AutoConfig, AutoModel, AutoTokenizer, GgufConfig

    source: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True, "gguf_file": weights.gguf_file}
    config = AutoConfig.from_pretrained(weights.folder, **source)
    check_claims(weights, config)
    # Given the configuration, neither parses the file's metadata again (5 s each time).
    tokenizer = AutoTokenizer.from_pretrained(weights.folder, config=config, **source)
    # The reader ignores transformers' setting for progress bars.
    with changed(reader, tqdm=partial(reader.tqdm, disable=True)):
        model, info = AutoModel.from_pretrained(
            weights.folder,
            config=config,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            # Else the weights stay packed and are unpacked for every product, in float32.
            quantization_config=GgufConfig(dequantize=True),
            **source,
        )
    return config, tokenizer, model, info
