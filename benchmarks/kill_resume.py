"""Kill an extraction with real weights ten times by SIGKILL, resume it, and compare with one that ran through.

    python benchmarks/kill_resume.py --task go_emotion --data DATA/go_emotion --encoder minilm-l6

Prints, as JSON: kills that found it at work, texts encoded in all, texts encoded again after their commit (must be
0), features that differ in any bit (must be 0). The process that is killed is tests/features/kill_driver.py.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders import identify, parse_encoder
from fusion_classifier.features import FeatureStore, hash_texts, read_features
from fusion_classifier.features.hashing import HASH_DTYPE
from fusion_classifier.tasks import load_task

DRIVER = Path(__file__).parents[1] / "tests" / "features" / "kill_driver.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--data")
    parser.add_argument("--encoder", default="minilm-l6")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--longest", type=float, default=8.0, help="seconds of work before a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    task = load_task(TaskConfig(name=arguments.task, data=arguments.data, limit=arguments.limit))
    texts = [" ".join(text.split()) for split in task.splits.values() for text in split.texts]
    identity = identify(parse_encoder(arguments.encoder), torch.device("cpu"))
    hashes, moments = np.unique(hash_texts(texts)), random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "texts.txt").write_text("\n".join(texts), "utf-8")

        def start(name: str, log: Path) -> subprocess.Popen[bytes]:
            places = [arguments.encoder, str(root / name), str(root / "texts.txt"), str(log)]
            return subprocess.Popen([sys.executable, str(DRIVER), *places])

        assert start("uninterrupted", root / "reference.log").wait() == 0
        expected = read_features(texts, [identity], FeatureStore(root / "uninterrupted"))[identity.config.name]
        store = FeatureStore(root / "killed")
        at_work = encoded_in_all = again = 0
        for attempt in range(arguments.kills + 1):
            committed = hashes[store.of(identity).contains(hashes)]
            log = root / f"{attempt}.log"
            process = start("killed", log)
            if attempt < arguments.kills:
                while not log.exists() and process.poll() is None:
                    time.sleep(0.01)
                time.sleep(moments.uniform(0, arguments.longest))
                at_work += process.poll() is None
                process.send_signal(signal.SIGKILL)
            process.wait()
            encoded = np.frombuffer(log.read_bytes(), HASH_DTYPE) if log.exists() else hashes[:0]
            encoded_in_all += len(encoded)
            again += int(np.isin(encoded, committed).sum())
        found = read_features(texts, [identity], store)[identity.config.name]
        result = {
            "texts": len(hashes),
            "kills_at_work": at_work,
            "encoded_in_all": encoded_in_all,
            "encoded_again_after_commit": again,
            "features_that_differ": int((found.values != expected.values).sum()),
            "rows": store.of(identity).entry().rows,
            "problems": list(store.verify(identity.key)),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
