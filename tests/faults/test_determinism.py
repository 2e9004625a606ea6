"""How far a text's feature depends on what it is encoded with: the tolerances that docs/reliability.md states."""

import numpy as np
import pytest
import torch

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.tasks.named.demo import Demo


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.9998), ("float32", 1 - 1e-9)])
def test_a_feature_depends_on_its_text_alone(dtype: str, least: float) -> None:
    texts = list(Demo().load().split("valid").texts[:40])
    encoder = load_encoder(parse_encoder(f"minilm-l6?dtype={dtype}"), torch.device("cpu"))
    together, backwards = np.stack(encode(encoder, texts)), np.stack(encode(encoder, texts[::-1]))[::-1]
    alone = np.stack([encode(encoder, [text])[0] for text in texts])
    assert np.array_equal(together, np.stack(encode(encoder, texts))), "twice the same bits"
    for other in (backwards, alone):
        a, b = together.astype(np.float64).reshape(len(texts), -1), other.astype(np.float64).reshape(len(texts), -1)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() >= least
