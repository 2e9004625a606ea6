"""Head `linear`: logistic regression on the pooled features of all encoders, side by side, solved to its optimum.

The strength of the penalty, and whether the labels' names are further training texts, are those with the highest
cross-validated log-likelihood. No row is held out.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fusion_classifier.config import LinearConfig
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.folds import CROSS_VALIDATED_ROWS, NAME, fold_numbers, sample
from fusion_classifier.fusion.head import Batch, SolvedHead
from fusion_classifier.fusion.logistic import path, solve, total_loss

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # values of C that are tried


class LinearHead(SolvedHead):
    """softmax(W (x − mean) / std + b); mean and std are 0 and 1 but with `scaling` standardize.

    Attributes:
        c: Inverse strength of the penalty that was chosen.
        with_names: Whether the labels' names were trained on.
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
        self.c, self.with_names = config.c or 1.0, False

    def transform(self, batch: Batch) -> Tensor:
        """The pooled features side by side, each layer's scaled to unit L2 norm unless standardized: (B, D)."""
        pooled = [feature[:, -1:] if self.last_only else feature for feature in self.pooled(batch)]
        if self.config.scaling == "unit":
            pooled = [normalize(feature, dim=-1) for feature in pooled]
        return torch.cat([feature.flatten(1) for feature in pooled], dim=1)

    @property
    def output_bias(self) -> nn.Parameter:
        """See `Head`: (C,)."""
        return self.linear.bias

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.linear((self.transform(batch) - self.mean) / self.std)
        return logits

    def solve(
        self, x: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, seed: int, names: int = 0
    ) -> np.ndarray | None:
        """See `SolvedHead`."""
        mean, std = self._statistics(x)
        z, targets = torch.from_numpy((x - mean) / std), torch.from_numpy(labels)
        of_texts = None if weights is None else torch.from_numpy(weights)
        texts = len(x) - names
        rows = np.concatenate([sample(labels[:texts], CROSS_VALIDATED_ROWS, seed), np.arange(texts, len(x))])
        folds = fold_numbers(x[rows], labels[rows], seed, names)
        judged = self._cross_validate(z[rows], targets[rows], None if of_texts is None else of_texts[rows], folds)
        kept = torch.from_numpy(np.arange(len(x)) < (len(x) if self.with_names else texts))
        found = solve(z[kept], targets[kept], self.n_classes, self.c, None if of_texts is None else of_texts[kept])
        with torch.no_grad():
            self.mean.copy_(torch.from_numpy(mean))
            self.std.copy_(torch.from_numpy(std))
            self.linear.weight.copy_(found.weight)
            self.linear.bias.copy_(found.bias)
        return judged.numpy() if len(rows) == len(x) else None

    def _statistics(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each feature (D,), float32; a constant feature is only centred."""
        if self.config.scaling == "unit":
            return np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
        mean, std = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
        std = np.where(std > 1e-6 * (np.abs(mean) + 1e-6), std, 1.0)
        return mean.astype(np.float32), std.astype(np.float32)

    def _cross_validate(self, x: Tensor, targets: Tensor, weights: Tensor | None, folds: np.ndarray) -> Tensor:
        """Choose `c` and `with_names`; the out-of-fold logits of that choice (N, C), 0 for label names."""
        strengths = STRENGTHS if self.config.c is None else (self.config.c,)
        best: tuple[float, Tensor] | None = None
        for with_names in (False, True) if (folds == NAME).any() else (False,):
            logits = torch.zeros(len(strengths), len(x), self.n_classes)
            for fold in range(folds.max() + 1):
                trained = torch.from_numpy((folds != fold) & (with_names | (folds != NAME)))
                held = torch.from_numpy(folds == fold)
                if not held.any() or not trained.any():
                    continue
                of_texts = None if weights is None else weights[trained]
                solutions = path(x[trained], targets[trained], self.n_classes, strengths, of_texts)
                for position, solution in enumerate(solutions):
                    logits[position, held] = solution.logits(x[held])
            judged = torch.from_numpy(folds >= 0)
            of_judged = None if weights is None else weights[judged]
            losses = [float(total_loss(one[judged], targets[judged], of_judged)) for one in logits]
            position = int(np.argmin(losses))
            if best is None or losses[position] < best[0]:
                best = losses[position], logits[position]
                self.c, self.with_names = strengths[position], with_names
        assert best is not None
        return best[1]
