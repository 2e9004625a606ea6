"""Output of a head for any number of texts, in batches that fit into memory."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fusion_classifier.errors import DataError, NonFiniteError
from fusion_classifier.features.arrays import Features
from fusion_classifier.features.stored import StoredFeatures
from fusion_classifier.fusion.head import Batch, Head
from fusion_classifier.training.data import LabelledFeatures, blocks, feature_batch, in_blocks, tokens_of

AnyFeatures = Mapping[str, Features | StoredFeatures]

INFERENCE_ROWS = 1024
# Padded tokens per batch over all encoders: token states of a thousand long texts would not fit into memory. On a CPU
# few enough for malloc to reuse their memory: larger blocks are zeroed by the system each time.
INFERENCE_TOKENS = {"cpu": 4096, "mps": 16384, "cuda": 16384}


def inference_batches(lengths: np.ndarray | None, count: int, device: torch.device) -> Iterator[np.ndarray]:
    """All rows in batches that fit into memory, sorted by `lengths` (from `tokens_of`) to reduce padding."""
    if lengths is None:
        yield from blocks(count, INFERENCE_ROWS)
        return
    rows = np.argsort(-lengths, kind="stable")
    start = 0
    while start < count:
        size = int(np.clip(INFERENCE_TOKENS[device.type] // max(int(lengths[rows[start]]), 1), 1, INFERENCE_ROWS))
        yield rows[start : start + size]
        start += size


def predict_logits(head: Head, features: AnyFeatures, count: int, device: torch.device) -> Tensor:
    """Logits of all texts in order: (N, C), float32, on the CPU."""
    return predict_each(head, head, features, count, device)


def solved_features(head: Head, data: LabelledFeatures, device: torch.device) -> np.ndarray:
    """`Head.transform` of all texts, for `SolvedHead.solve`: (N, D), float32."""
    x: np.ndarray = predict_each(head, head.transform, data.features, len(data), device).numpy()
    if not np.isfinite(x).all():
        raise NonFiniteError("NaN or infinity in the features of a training text; check them (fec store verify)")
    return x


@torch.inference_mode()
def predict_each(
    head: nn.Module,
    call: Callable[[Batch], Tensor],
    features: AnyFeatures,
    count: int,
    device: torch.device,
) -> Tensor:
    """Output of `call` for all texts in order: (…, N, D), float32, on the CPU."""
    head.eval()
    result: Tensor | None = None
    for block in in_blocks(features, count):
        for chosen in inference_batches(tokens_of(block.features), len(block), device):
            part = call(feature_batch(block.features, chosen, device)).float().cpu()  # (…, B, D)
            if result is None:
                result = part.new_empty(*part.shape[:-2], count, part.shape[-1])
            result[..., torch.from_numpy(block.rows[chosen]), :] = part
    if result is None:
        raise DataError("no texts to predict")
    return result
