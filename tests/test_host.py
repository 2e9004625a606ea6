"""A program that uses the package stays as it was: no setting of the process is changed for good."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import csv, json, logging, os, pickle, random, sys, warnings
import numpy as np
import torch
import sklearn.metrics, sklearn.model_selection
from transformers import AutoModel, AutoTokenizer
AutoModel.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])  # what transformers itself changes
import lance, pyarrow.dataset

def state():
    loggers = {"root": logging.root, **logging.root.manager.loggerDict}
    return {
        "levels": {name: logger.level for name, logger in loggers.items() if isinstance(logger, logging.Logger)},
        "handlers": {name: len(getattr(logger, "handlers", [])) for name, logger in loggers.items()},
        "csv": csv.field_size_limit(),
        "warnings": len(warnings.filters),
        "environment": dict(os.environ),
        "streams": [id(sys.stdout), id(sys.stderr)],
        "random": [hash(random.getstate()), hash(pickle.dumps(np.random.get_state()))],
        "torch random": hash(tuple(torch.get_rng_state().tolist())),
        "torch": [torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled()],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }

before = state()
from fusion_classifier import FusionClassifier
texts = [f"{word} {i}" for i in range(12) for word in ("we won", "he broke it", "it is dark")]
made = FusionClassifier([sys.argv[1]], head="fusion", store=sys.argv[2], training={"max_epochs": 2})
made.fit(texts, ["joy", "anger", "fear"] * 12).save_pretrained(sys.argv[3])
made.predict(["we won"])
after = state()
for part in ("levels", "handlers"):  # a module that is imported may have a logger; it has no level of its own
    after[part] = {name: value for name, value in after[part].items() if value or name in before[part]}
print(json.dumps({name: [before[name], after[name]] for name in before if before[name] != after[name]}))
"""


@pytest.mark.slow
def test_fitting_and_predicting_change_no_setting(bert_folder: Path, tmp_path: Path) -> None:
    arguments = [str(bert_folder), str(tmp_path / "store"), str(tmp_path / "model")]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}
