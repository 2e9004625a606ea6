"""The exported graphs: an encoder with its pooling, and a head with its calibration.

    encoder   input_ids, attention_mask[, counted_mask] (B, L)  →  features (B, L, layers, H) or (B, layers, H)
    head      features_0[, counted_mask_0], features_1, …       →  logits, probabilities (B, C), vectors (B, D)

Ids and masks are int64, the rest float32; B and L are variable. Both graphs run the package's own modules; only the
padded form of a batch (`PaddedStates`), which a graph needs, and the calibration in torch are implemented here.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from fusion_classifier.encoders import pooling
from fusion_classifier.encoders.loading import TransformerEncoder
from fusion_classifier.encoders.projection import INT8_STEPS
from fusion_classifier.features.arrays import TokenStates
from fusion_classifier.fusion.head import Head
from fusion_classifier.training.decision import MIN_LOG_REST, Decision

OPSET = 18
ONE_FILE_BYTES = 2**30  # larger weights go into a file next to the graph: protobuf's limit is 2 GiB
HEAD_OUTPUTS = ("logits", "probabilities", "vectors")
EXAMPLE = (2, 5)  # B and L of the inputs with which a graph is traced


@dataclass(frozen=True)
class PaddedStates(TokenStates):
    """A batch of token states with padding.

    Attributes:
        states: (B · L, layers, H).
        counted: Mask of the tokens that count, (B, L), bool.
    """

    counted: Tensor

    @classmethod
    def of(cls, states: Tensor, counted: Tensor) -> "PaddedStates":
        """From states (B, L, layers, H) and a mask (B, L) of 0 and 1."""
        return cls(states.flatten(0, 1), counted.sum(1), counted > 0)

    @property
    def mask(self) -> Tensor:
        """Mask of the tokens that count: (B, L), bool."""
        return self.counted

    def padded(self, values: Tensor) -> Tensor:
        """Values of all tokens (B · L, …), with zeros for those that don't count: (B, L, …)."""
        rows = values.reshape(*self.counted.shape, *values.shape[1:])
        counted = self.counted.reshape(*self.counted.shape, *[1] * (values.ndim - 1))
        return torch.where(counted, rows, torch.zeros((), dtype=rows.dtype))

    def unpadded(self, values: Tensor) -> Tensor:
        """Values of all tokens (B · L, …) of (B, L, …)."""
        return values.flatten(0, 1)


class EncoderGraph(nn.Module):
    """An encoder from token ids to the features that its head reads, projected but not yet in 8 bits."""

    def __init__(self, encoder: TransformerEncoder) -> None:
        super().__init__()
        self.model, self.layers, self.ways = encoder.model, list(encoder.layers), encoder.config.poolings
        self.projection = encoder.projection

    @property
    def inputs(self) -> list[str]:
        """Names of its inputs, each (B, L), int64."""
        counts = any(way in pooling.VECTORS and way not in pooling.UNMASKED for way in self.ways)
        return ["input_ids", "attention_mask", *(["counted_mask"] if counts else [])]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, counted_mask: Tensor | None = None) -> Tensor:
        """Features (B, layers, H), or with pooling `tokens` (B, L, layers, H)."""
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=self.layers)
        if self.ways == ("pooler",):
            pooler: Tensor = output.pooler_output[:, None]
            return pooler
        states = torch.stack([output.hidden_states[layer] for layer in self.layers], dim=2)  # (B, L, layers, H)
        if self.projection is not None:
            states = self.projection.project(states)
        if self.ways == ("tokens",):
            return states
        counted = attention_mask if counted_mask is None else counted_mask
        return pooling.pooled(states, counted > 0, attention_mask.sum(1), self.ways)


class HeadGraph(nn.Module):
    """A head from features to logits, calibrated probabilities and pooled vectors.

    Args:
        head: Trained head.
        decision: Its calibration.
        int8: Names of the encoders whose features it was trained on in 8 bits; they are given unrounded.
    """

    def __init__(self, head: Head, decision: Decision, int8: Sequence[str]) -> None:
        super().__init__()
        self.head, self.decision, self.int8 = head, decision, tuple(int8)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and probabilities, (B, C) each, and `Head.unit_vectors` (B, D), for each encoder's features and
        mask.

        Only ragged features have a mask.
        """
        given = iter(inputs)
        batch: dict[str, Tensor | TokenStates] = {}
        for name, shape in self.head.shapes.items():
            features = next(given)
            if name in self.int8:
                features = (features * INT8_STEPS).round().clamp(-127, 127)
            batch[name] = PaddedStates.of(features, next(given)) if shape.ragged else features
        logits = self.head(batch)
        return logits, probabilities(logits, self.decision), self.head.unit_vectors(batch)


def probabilities(logits: Tensor, decision: Decision) -> Tensor:
    """`Decision.probabilities` in torch and float32: (B, C) of (B, C).

    The original computes log(1 − q) in float64, because q may be close to 1. Only the q of the best label can be;
    its 1 − q is computed as the sum of the others.
    """
    if decision.multilabel:
        return torch.sigmoid(logits / decision.temperature)
    log_q = log_softmax(logits / decision.temperature, dim=1)
    if decision.beta == 0:
        return log_q.exp()
    best = torch.arange(logits.shape[1]) == log_q.argmax(1, keepdim=True)  # (B, C), one true value per row
    others = log_q.masked_fill(best, -torch.inf).logsumexp(1, keepdim=True)
    log_rest = torch.where(best, others, torch.log1p(-log_q.masked_fill(best, -torch.inf).exp()))
    return log_softmax(log_q + decision.beta * log_rest.clamp(min=MIN_LOG_REST), dim=1).exp()


def export_encoder(encoder: TransformerEncoder, path: Path) -> list[str]:
    """Write an encoder, loaded plain and in float32, as an ONNX file; the names of its inputs.

    Raises:
        Exception: Any, if torch can't trace the model.
    """
    graph = EncoderGraph(encoder)
    mask = torch.ones(EXAMPLE, dtype=torch.int64)
    mask[-1, -1] = 0  # a batch with padding: without it models ignore the mask
    # Separate tensors: tracing treats two inputs that are the same object as one input.
    examples = {name: mask.clone() for name in graph.inputs}
    axes = tuple({0: "batch", 1: "length"} for _ in examples)
    return _write(graph, examples, axes, ["features"], path)


def export_head(head: Head, decision: Decision, int8: Sequence[str], path: Path) -> list[str]:
    """Write a head as an ONNX file; the names of its inputs. Arguments as in `HeadGraph`.

    Raises:
        Exception: Any, if torch can't trace the head.
    """
    examples: dict[str, Tensor] = {}
    axes: list[dict[int, str]] = []
    for number, shape in enumerate(head.shapes.values()):
        # A separate length per encoder: tokenizers split a text into different numbers of tokens.
        batch, length = EXAMPLE[0], EXAMPLE[1] + number
        size = (batch, length) if shape.ragged else (batch,)
        examples[f"features_{number}"] = torch.randn(*size, shape.layers, shape.width)
        axes.append({0: "batch", 1: f"length_{number}"} if shape.ragged else {0: "batch"})
        if shape.ragged:
            examples[f"counted_mask_{number}"] = torch.ones(size, dtype=torch.int64)
            axes.append(axes[-1])
    graph = HeadGraph(head.cpu().eval(), decision, int8)
    return _write(graph, examples, (tuple(axes),), list(HEAD_OUTPUTS), path)


def _write(
    graph: nn.Module, examples: Mapping[str, Tensor], axes: tuple[object, ...], outputs: Sequence[str], path: Path
) -> list[str]:
    """Write a graph, traced with examples of its inputs, and check it; the names of its inputs."""
    import onnx  # noqa: PLC0415 - an extra

    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    with quiet(), torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            graph,
            tuple(examples.values()),
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_shapes=axes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=size > ONE_FILE_BYTES)
    onnx.checker.check_model(str(path))
    return list(examples)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the logs and warnings of the exporter and of ONNX Runtime's tools.

    The tools also change the settings of the program's root logger, which are restored.
    """
    root = logging.getLogger()
    level, handlers, disabled = root.level, list(root.handlers), root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
