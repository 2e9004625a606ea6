"""What is exported: an encoder with its pooling, and a head with its calibration.

    encoder   input_ids, attention_mask[, counted_mask] (B, L)  →  features (B, L, layers, H) or (B, layers, H)
    head      features_0[, counted_mask_0], features_1, …       →  logits, probabilities (B, C)

Ids and masks are int64, the rest float32; B and L are free. Both graphs run the package's own modules: there is no
second implementation of a head or a pooling, only the padded form of a batch (`PaddedStates`) that a graph needs, and
the calibration in torch.
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
from fusion_classifier.features.arrays import FeatureShape, TokenStates
from fusion_classifier.fusion.head import Head
from fusion_classifier.training.decision import LEAST_LOG_REST, Decision

OPSET = 18
ONE_FILE_BYTES = 2**30  # weights beyond go into a file beside the graph: protobuf ends at 2 GiB
EXAMPLE = (2, 5)  # B and L of the inputs that a graph is traced with


@dataclass(frozen=True)
class PaddedStates(TokenStates):
    """A batch of token states with padding: `states` (B · L, layers, H), `counted` (B, L), true for what counts."""

    counted: Tensor

    @classmethod
    def of(cls, states: Tensor, counted: Tensor) -> "PaddedStates":
        """From states (B, L, layers, H) and a mask (B, L) of 0 and 1."""
        return cls(states.flatten(0, 1), counted.sum(1), counted > 0)

    @property
    def mask(self) -> Tensor:
        """Which tokens count: (B, L), bool."""
        return self.counted

    def padded(self, values: Tensor) -> Tensor:
        """Values of all tokens (B · L, …) text by text, zero where they don't count: (B, L, …)."""
        rows = values.reshape(*self.counted.shape, *values.shape[1:])
        counted = self.counted.reshape(*self.counted.shape, *[1] * (values.ndim - 1))
        return torch.where(counted, rows, torch.zeros((), dtype=rows.dtype))


class EncoderGraph(nn.Module):
    """An encoder from token ids to the features its head reads, projected but not yet in 8 bits."""

    def __init__(self, encoder: TransformerEncoder) -> None:
        super().__init__()
        self.model, self.layers, self.ways = encoder.model, list(encoder.layers), encoder.config.poolings
        self.projection = encoder.projection

    @property
    def inputs(self) -> list[str]:
        """Names of its inputs, each (B, L), int64."""
        counts = any(way in ("mean", "max") for way in self.ways)
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
    """A head from features to logits and calibrated probabilities.

    Args:
        head: trained.
        decision: its calibration.
        int8: names of the encoders whose features it was trained on in 8 bits; they come unrounded.
    """

    def __init__(self, head: Head, decision: Decision, int8: Sequence[str]) -> None:
        super().__init__()
        self.head, self.decision, self.int8 = head, decision, tuple(int8)

    @property
    def inputs(self) -> list[str]:
        """Names of its inputs."""
        names = []
        for number, shape in enumerate(self.head.shapes.values()):
            names += [f"features_{number}", *([f"counted_mask_{number}"] if shape.ragged else [])]
        return names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities, (B, C) each, of the inputs in the order of `inputs`."""
        given = iter(inputs)
        batch: dict[str, Tensor | TokenStates] = {}
        for name, shape in self.head.shapes.items():
            features = next(given)
            if name in self.int8:
                features = (features * INT8_STEPS).round().clamp(-127, 127)
            batch[name] = PaddedStates.of(features, next(given)) if shape.ragged else features
        logits = self.head(batch)
        return logits, probabilities(logits, self.decision)


def probabilities(logits: Tensor, decision: Decision) -> Tensor:
    """`Decision.probabilities` in torch and float32: (B, C) of (B, C).

    The float64 of the original gives log(1 − q) its digits where q is nearly 1. Only the best label's q can be, and
    what remains for the others can be summed instead of subtracted.
    """
    if decision.multilabel:
        return torch.sigmoid(logits / decision.temperature)
    log_q = log_softmax(logits / decision.temperature, dim=1)
    if decision.beta == 0:
        return log_q.exp()
    best = torch.arange(logits.shape[1]) == log_q.argmax(1, keepdim=True)  # (B, C), one true a row
    others = log_q.masked_fill(best, -torch.inf).logsumexp(1, keepdim=True)
    log_rest = torch.where(best, others, torch.log1p(-log_q.masked_fill(best, -torch.inf).exp()))
    return log_softmax(log_q + decision.beta * log_rest.clamp(min=LEAST_LOG_REST), dim=1).exp()


def export_encoder(encoder: TransformerEncoder, path: Path) -> EncoderGraph:
    """Write an encoder, loaded plain and in float32, as an ONNX file.

    Raises:
        Exception: of many kinds, where torch can't trace the model.
    """
    graph = EncoderGraph(encoder)
    mask = torch.ones(EXAMPLE, dtype=torch.int64)
    mask[-1, -1] = 0  # a batch with padding: of one without, models leave the mask out
    # Each a tensor of its own: tracing takes two inputs that are one object for one input.
    examples = {name: mask.clone() for name in graph.inputs}
    axes = {name: {0: "batch", 1: "length"} for name in graph.inputs}
    _write(graph, examples, axes, ["features"], path)
    return graph


def export_head(head: Head, decision: Decision, int8: Sequence[str], path: Path) -> HeadGraph:
    """Write a head as an ONNX file."""
    graph = HeadGraph(head.cpu().eval(), decision, int8)
    examples, axes = {}, {}
    shapes = list(head.shapes.values())
    for name in graph.inputs:
        number = int(name.rpartition("_")[2])
        examples[name], axes[name] = _head_input(name, number, shapes[number])
    _write(graph, examples, {"inputs": tuple(axes.values())}, ["logits", "probabilities"], path, tuple(examples))
    return graph


def _head_input(name: str, number: int, shape: FeatureShape) -> tuple[Tensor, dict[int, str]]:
    """An example of a head's input, and the names of its free axes."""
    # Encoders cut a text into different numbers of tokens: each has a length of its own.
    batch, length = EXAMPLE[0], EXAMPLE[1] + number
    axes = {0: "batch", 1: f"length_{number}"}
    if name.startswith("counted_mask"):
        return torch.ones(batch, length, dtype=torch.int64), axes
    if shape.ragged:
        return torch.randn(batch, length, shape.layers, shape.width), axes
    return torch.randn(batch, shape.layers, shape.width), {0: "batch"}


def _write(
    graph: nn.Module,
    examples: Mapping[str, Tensor],
    axes: Mapping[str, object],
    outputs: Sequence[str],
    path: Path,
    positional: Sequence[str] = (),
) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    with _quiet(), torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            graph,
            tuple(examples[name] for name in positional),
            kwargs={name: tensor for name, tensor in examples.items() if name not in positional},
            input_names=list(examples),
            output_names=list(outputs),
            dynamic_shapes=dict(axes),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=size > ONE_FILE_BYTES)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own affairs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
