"""Trains the upper layers of an encoder on up to 5,000 texts, for the head `ensemble`.

Texts of the same label move closer together, others move apart (pairs.py); then logistic regression is fitted to the
vectors. Nothing is held out: the number of steps is fixed.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.config import TrainingPrecision
from fusion_classifier.encoders.device import resolve_dtype
from fusion_classifier.errors import NonFiniteError
from fusion_classifier.features.arrays import TokenFeatures
from fusion_classifier.fusion.logistic import solve
from fusion_classifier.fusion.upper_layers import UpperLayers
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.inference import predict_each
from fusion_classifier.training.pairs import train_on_pairs

MAX_ROWS = 5000  # training texts; more were not tried
LEARNING_RATE = 4e-4  # chosen on validation, with MiniLM (docs/decisions.md)
BATCH_SIZE = 64
STEPS = 40  # unless they are fewer or more passes over the texts than these
MIN_PASSES, MAX_PASSES = 5, 10
MAX_TOKENS = 250_000  # in all steps of a training: limits the time
WEIGHT_DECAY, WARMUP = 0.01, 0.1
C = 10.0  # inverse strength of the penalty of the logistic regression


def suited(data: LabelledFeatures, encoder: str) -> bool:
    """Whether there are few enough texts, short enough for this encoder, with one label each."""
    states = data.features[encoder]
    if data.multilabel or data.n_texts > MAX_ROWS or not isinstance(states, TokenFeatures):
        return False
    return most_steps(tokens_per_text(data, encoder)) >= STEPS


def tokens_per_text(data: LabelledFeatures, encoder: str) -> float:
    """Mean number of tokens."""
    states = data.features[encoder]
    assert isinstance(states, TokenFeatures)
    return float(states.lengths.mean())


def most_steps(tokens: float) -> int:
    """Largest number of steps with this mean number of tokens per text."""
    return int(MAX_TOKENS / (BATCH_SIZE * tokens))


@dataclass(frozen=True)
class UpperTraining:
    """Trains copies of the upper layers from the encoder's weights.

    Attributes:
        pretrained: Weights of the encoder's layers, by name.
        precision: Precision of products.
        seed: Seed of the batches.
        device: Device of the layers.
        tokens: Mean number of tokens per text.
    """

    pretrained: Mapping[str, Tensor]
    precision: TrainingPrecision
    seed: int
    device: torch.device
    tokens: float

    def steps(self, texts: int) -> int:
        """Number of steps for this number of texts."""
        batches = math.ceil(texts / BATCH_SIZE)
        return min(MAX_PASSES * batches, max(MIN_PASSES * batches, STEPS), most_steps(self.tokens))

    def texts_trained(self, texts: int) -> int:
        """About the number of texts in all steps."""
        return self.steps(texts) * min(texts, BATCH_SIZE)

    def fit(self, upper: UpperLayers, data: LabelledFeatures, advance: Callable[[int], None]) -> None:
        """Train on token states and labels, label names included; only the regression uses weights of texts.

        Args:
            upper: Layers to train.
            data: N texts.
            advance: Called after each step with the size of the batch.
        """
        upper.load_state_dict(dict(self.pretrained), strict=False)
        states = data.features[upper.encoder]
        assert isinstance(states, TokenFeatures)
        steps = train_on_pairs(
            lambda rows: upper.vectors({upper.encoder: states.batch(rows).to(self.device)}),
            list(upper.layers.parameters()),
            data.labels,
            steps=self.steps(len(data)),
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            warmup=WARMUP,
            seed=self.seed,
            bfloat16=resolve_dtype(self.precision, self.device) == "bfloat16",
        )
        for size, loss in steps:
            if not math.isfinite(loss):
                raise NonFiniteError("training of the upper layers diverged; leave them out (`upper_layers` false)")
            advance(size)
        x = predict_each(upper, upper.vectors, data.features, len(data), self.device)
        weights = None if data.weights is None else torch.from_numpy(data.weights)
        solution = solve(x, torch.from_numpy(data.labels), upper.linear.out_features, C, weights)
        with torch.no_grad():
            upper.linear.weight.copy_(solution.weight)
            upper.linear.bias.copy_(solution.bias)

    def out_of_fold(
        self,
        upper: UpperLayers,
        data: LabelledFeatures,
        splits: list[tuple[np.ndarray, np.ndarray]],
        advance: Callable[[int], None],
    ) -> Tensor:
        """Logits of each text from layers trained without its fold: (1, N, C).

        Args:
            upper: Layers, which are not changed.
            data: Texts and labels.
            splits: Held-out rows and training rows of each fold.
            advance: As in `fit`.
        """
        result = torch.zeros(1, data.n_texts, upper.linear.out_features)
        for held, others in splits:
            trained = copy.deepcopy(upper)
            self.fit(trained, data.take(others), advance)
            logits = predict_each(trained, trained, data.take(held).features, len(held), self.device)  # (n, C)
            result[0, torch.from_numpy(held)] = logits
        return result
