"""How many tokens texts have, without loading the model."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from fusion_classifier.encoders.gguf import unpacked
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.errors import WeightsError, said_of

BATCH = 1000  # texts tokenized at once: the tokens of a whole data set need not be in memory


def token_lengths(identity: EncoderIdentity, texts: Sequence[str]) -> np.ndarray:
    """Tokens of each text in the encoder's template, special tokens included, before any is cut off: (N,), int64.

    Raises:
        WeightsError: the tokenizer can't be loaded.
    """
    tokenizer = _load_tokenizer(identity)
    template = identity.config.template
    lengths: list[int] = []
    for start in range(0, len(texts), BATCH):
        rendered = [template.replace("{text}", text) for text in texts[start : start + BATCH]]
        lengths += map(len, tokenizer(rendered, truncation=False, verbose=False)["input_ids"])
    return np.array(lengths, dtype=np.int64)


def _load_tokenizer(identity: EncoderIdentity) -> PreTrainedTokenizerBase:
    weights = identity.weights
    source: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    folder = weights.folder
    what = f"{identity.config.name}: the tokenizer in {weights.folder} can't be loaded"
    # The GGUF reader draws a progress bar of its own.
    with said_of(lambda why: WeightsError(f"{what} ({why})")), contextlib.redirect_stderr(io.StringIO()):
        if weights.gguf_file is not None:
            kept = unpacked(weights, identity.fingerprint, identity.dtype)
            folder, source = (
                (weights.folder, source | {"gguf_file": weights.gguf_file}) if kept is None else (kept, source)
            )
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **source)
    return tokenizer
