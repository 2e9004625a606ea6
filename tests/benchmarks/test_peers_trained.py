"""Fine-tuning as a peer: what it predicts belongs to the text that was asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.runs.context import RunContext
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "accuracy"


def test_predictions_are_in_the_order_of_the_texts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bert_folder: Path
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from peers import Problem
    from peers_trained import finetune

    task = load_task(TaskConfig(name="demo", limit=40))
    work = RunContext(FeatureStore(tmp_path), torch.device("cpu"), QUIET)
    fitted = finetune(Problem(task, 0, True, None, parse_encoders([str(bert_folder)]), work, tmp_path))
    texts = ["b", "a much longer text than the others are", "one more", "and a text of middling length"] * 20
    together = fitted.predict(texts)
    np.testing.assert_allclose(together[:4], together[4:8], atol=2e-3)  # bfloat16
    for i, text in enumerate(texts[:4]):
        np.testing.assert_allclose(fitted.predict([text])[0], together[i], atol=2e-3)
    assert np.abs(together[0] - together[1]).max() > 0.01
