"""Head `linear`: logistic regression on the concatenated pooled features of all encoders, solved to its optimum.

The strength of the penalty, and whether label names are added as training texts, are chosen by the cross-validated
log-likelihood after the scale of the logits is fitted: a strong penalty makes logits small, but calibration corrects
that. No row is held out.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fusion_classifier.config import LinearConfig
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.folds import ALWAYS, MAX_CROSS_VALIDATED, fold_numbers, sample
from fusion_classifier.fusion.head import Batch, OutOfFold, SolvedHead
from fusion_classifier.fusion.logistic import Solution, solve
from fusion_classifier.fusion.loss import fit_scale

CS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)  # candidate values of C


class LinearHead(SolvedHead):
    """softmax(W (x − mean) / std + b); mean and std are 0 and 1 unless `scaling` is standardize.

    Attributes:
        c: Chosen inverse strength of the penalty.
        with_names: Whether the labels' names were trained on.
        scale: Factor for the logits with the lowest out-of-fold loss, at least 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: LinearConfig, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__(config, shapes, n_classes)
        self.config: LinearConfig = config
        self.last_only = config.linear_layers == "last"
        width = sum(shape.width if self.last_only else shape.layers * shape.width for shape in shapes.values())
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.linear = nn.Linear(width, n_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.c, self.with_names, self.scale = config.c or 1.0, False, 1.0

    def transform(self, batch: Batch) -> Tensor:
        """See `features_of`."""
        return self.features_of(self.pooled(batch))

    def features_of(self, pooled: list[Tensor]) -> Tensor:
        """Output of `Head.pooled`, concatenated, each layer scaled to unit length unless standardized: (B, D)."""
        pooled = [feature[:, -1:] if self.last_only else feature for feature in pooled]
        if self.config.scaling == "unit":
            pooled = [normalize(feature, dim=-1) for feature in pooled]
        return torch.cat([feature.flatten(1) for feature in pooled], dim=1)

    @property
    def output_bias(self) -> nn.Parameter:
        """See `Head`: (C,)."""
        return self.linear.bias

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        return self.logits_of(self.pooled(batch))

    def logits_of(self, pooled: list[Tensor]) -> Tensor:
        """Logits (B, C) for the output of `Head.pooled`."""
        logits: Tensor = self.linear((self.features_of(pooled) - self.mean) / self.std)
        return logits

    def solve(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray | None,
        seed: int,
        n_label_names: int = 0,
        groups: np.ndarray | None = None,
    ) -> OutOfFold:
        """See `SolvedHead`. At most `MAX_CROSS_VALIDATED` texts are predicted out of fold."""
        if self.config.scaling == "standardize":
            x = self._standardized(x)
        features, targets = torch.from_numpy(x), torch.from_numpy(labels)
        z, basis = in_span(features) if len(x) < x.shape[1] else (features, None)
        of_texts = None if weights is None else torch.from_numpy(weights)
        texts = len(x) - n_label_names
        held_out = sample(texts, MAX_CROSS_VALIDATED, seed)
        rows = np.concatenate([held_out, np.arange(texts, len(x))])
        folds = fold_numbers(x[rows], labels[rows], seed, n_label_names, None if groups is None else groups[rows])
        logits, start = self._cross_validate(
            z[rows], targets[rows], None if of_texts is None else of_texts[rows], folds
        )
        kept = len(x) if self.with_names else texts
        of_kept = None if of_texts is None else of_texts[:kept]
        solution = solve(z[:kept], targets[:kept], self.n_classes, self.c, of_kept, start)
        with torch.no_grad():
            self.linear.weight.copy_(solution.weight if basis is None else solution.weight @ basis.T)
            self.linear.bias.copy_(solution.bias)
        return OutOfFold(held_out, logits[: len(held_out)])

    def _standardized(self, x: np.ndarray) -> np.ndarray:
        """Standardize the features (N, D) and keep their mean and deviation. A constant feature is only centred."""
        mean, std = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
        std = np.where(std > 1e-6 * (np.abs(mean) + 1e-6), std, 1.0)
        self.mean.copy_(torch.from_numpy(mean))
        self.std.copy_(torch.from_numpy(std))
        standardized: np.ndarray = (x - self.mean.numpy()) / self.std.numpy()
        return standardized

    def _cross_validate(
        self, x: Tensor, targets: Tensor, weights: Tensor | None, folds: np.ndarray
    ) -> tuple[Tensor, Solution | None]:
        """Choose `c` and `with_names`; their out-of-fold logits (N, C), 0 for label names, and the solution of a
        fold."""
        in_fold = torch.from_numpy(folds >= 0)
        in_fold_weights = None if weights is None else weights[in_fold]
        best, best_logits = math.inf, torch.zeros(len(x), self.n_classes)
        start: Solution | None = None
        for with_names in (False, True) if (folds == ALWAYS).any() else (False,):
            before = math.inf
            for c, logits, solution in self._path(x, targets, weights, folds, with_names=with_names):
                scale, loss = fit_scale(logits[in_fold], targets[in_fold], in_fold_weights)
                if loss < best:
                    best, best_logits, start = loss, logits, solution
                    self.c, self.with_names, self.scale = c, with_names, max(scale, 1.0)
                if loss > before:  # weaker penalties are even worse, and slowest
                    break
                before = loss
        return best_logits, start

    def _path(
        self, x: Tensor, targets: Tensor, weights: Tensor | None, folds: np.ndarray, *, with_names: bool
    ) -> Iterator[tuple[float, Tensor, Solution | None]]:
        """Each C, ascending, with its out-of-fold logits (N, C); each fit starts from the previous solution."""
        parts: list[tuple[Tensor, Tensor]] = []
        for fold in range(folds.max() + 1):
            trained, held = (folds != fold) & (with_names | (folds != ALWAYS)), folds == fold
            if held.any() and trained.any():
                parts.append((torch.from_numpy(trained), torch.from_numpy(held)))
        solutions: list[Solution | None] = [None] * len(parts)
        for c in CS if self.config.c is None else (self.config.c,):
            logits = torch.zeros(len(x), self.n_classes)
            for position, (trained, held) in enumerate(parts):
                of_texts = None if weights is None else weights[trained]
                before = solutions[position]
                solution = solve(x[trained], targets[trained], self.n_classes, c, of_texts, before)
                solutions[position], logits[held] = solution, solution.logits(x[held])
            yield c, logits, solutions[0] if solutions else None


def in_span(x: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (N, N) of fewer features than dimensions (N, D) in an orthonormal basis of their span (D, N).

    Weights with an L2 penalty lie in the span of the features (representer theorem), so the problem in these
    coordinates has the same solution, with fewer parameters. Source: Hastie, Tibshirani: Efficient quadratic
    regularization for expression arrays, Biostatistics 5, 2004, https://doi.org/10.1093/biostatistics/kxh010.
    """
    basis, coordinates = torch.linalg.qr(x.T)
    return coordinates.T.contiguous(), basis
