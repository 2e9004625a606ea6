"""Work of a process that extracts and can be killed.

It appends the hash of every text to LOG when the text has been encoded, before its commit, and takes its time,
so that a kill finds it at work.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.features.extract import extract_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.progress import QUIET


def main(model: str, store: str, texts: str, log: str) -> None:
    module = sys.modules["fusion_classifier.features.extract"]
    add = module.Commits.add

    def logged_add(commits: object, part: tuple[np.ndarray, list[np.ndarray]]) -> None:
        with Path(log).open("ab") as file:
            file.write(np.ascontiguousarray(part[0]).tobytes())
        time.sleep(0.03)
        add(commits, part)

    module.Commits.add = logged_add
    torch.set_num_threads(1)
    device = torch.device("cpu")
    lines = Path(texts).read_text("utf-8").splitlines()
    identity = identify(parse_encoder(model), device)
    extract_features(lines, identity, FeatureStore(store), device, QUIET, commit_seconds=0.1)
