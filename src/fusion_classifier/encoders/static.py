"""Static models, such as model2vec's: one vector per token, averaged, without a forward pass or torch.

https://github.com/MinishLab/model2vec. StaticEmbedding of sentence-transformers does the same, but includes unknown
tokens.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.errors import UsageError, WeightsError, library_errors


@dataclass(frozen=True)
class StaticModel:
    """Vectors of tokens; an `Encoder`."""

    name: str
    version: str
    template: str
    vectors: np.ndarray  # (V, H), float32
    tokenizer: Any
    unknown: int | None  # a token that does not count

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Mean vector of each text's tokens: (N, H); zeros for a text without tokens."""
        rendered = [self.template.replace("{text}", text) for text in texts]
        encodings = self.tokenizer.encode_batch(rendered, add_special_tokens=False)
        features = np.zeros((len(texts), self.vectors.shape[1]), np.float32)
        for row, encoding in enumerate(encodings):
            ids = [token for token in encoding.ids if token != self.unknown]
            if ids:
                features[row] = self.vectors[ids].mean(0)
        return features


def load_static(identity: EncoderIdentity) -> StaticModel:
    """Load a static model."""
    config, folder = identity.config, identity.weights.folder
    plain = config.pooling == "mean" and config.layers in (None, (-1,)) and config.projection is None
    if not plain or len(config.templates) > 1:
        raise UsageError(
            f"{config.name}: a static model has one vector per text; use `pooling` mean without `layers` and "
            "`projection`, and a `head` for pooled features, such as linear"
        )
    what = f"{config.name}: the static model in {folder} can't be loaded"
    with library_errors(lambda why: WeightsError(f"{what} ({why})")):
        from safetensors.numpy import load_file  # noqa: PLC0415 - few encoders are static
        from tokenizers import Tokenizer  # noqa: PLC0415

        tensors = load_file(folder / "model.safetensors")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if config.long == "cut":
            tokenizer.enable_truncation(config.max_length)
        of_model2vec = "embeddings" in tensors
        vectors = tensors["embeddings" if of_model2vec else "embedding.weight"]
        if "mapping" in tensors:
            vectors = vectors[tensors["mapping"]]
        vectors = vectors.astype(np.float32)
        if "weights" in tensors:
            vectors *= tensors["weights"].astype(np.float32)[:, None]
        unknown = _unknown(tokenizer) if of_model2vec else None
        if len(vectors) < tokenizer.get_vocab_size():
            raise WeightsError(f"{what} (it has {len(vectors)} vectors for {tokenizer.get_vocab_size()} tokens)")
    return StaticModel(config.name, identity.fingerprint, config.template, vectors, tokenizer, unknown)


def _unknown(tokenizer: Any) -> int | None:
    """The token of words that are not in the vocabulary."""
    if hasattr(tokenizer.model, "unk_token"):
        name = tokenizer.model.unk_token
        return None if name is None else tokenizer.token_to_id(name)
    unknown: int | None = json.loads(tokenizer.to_str())["model"].get("unk_id")  # of a Unigram
    return unknown
