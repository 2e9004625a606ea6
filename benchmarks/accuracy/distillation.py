"""Whether a student learns more from a teacher's probabilities than from the labels alone.

    python benchmarks/accuracy/distillation.py --data data/go_emotion

Of the train split `--labelled` texts have labels and `--further` others have none; of validation `--valid` texts
choose the epoch and calibrate, and the rest judges. The teacher is the default head on `--teacher`; every student is
the head `fusion` on `--student`, as `fec distill` trains it, in some 400 steps whatever its texts. One line per kind
of targets: mean and standard deviation of accuracy over seeds.
"""

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch

from fusion_classifier.commands.distill import HEAD, TRAINING
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.features.extract import extract_features, read_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.progress import QUIET, Progress
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.result import TrainingResult
from fusion_classifier.training.train import train

CPU = torch.device("cpu")


def probabilities(trained: TrainingResult, data: LabelledFeatures) -> np.ndarray:
    """Probabilities of texts (N, C)."""
    return trained.decision.probabilities(predict_logits(trained.head, data.features, len(data), CPU))


def of_encoders(data: LabelledFeatures, identities: Iterable[EncoderIdentity]) -> LabelledFeatures:
    """The same texts by some of the encoders."""
    return replace(data, features={one.config.name: data.features[one.config.name] for one in identities})


def kinds_of_targets(
    both: LabelledFeatures, labelled: int, answers: np.ndarray, out_of_fold: np.ndarray | None
) -> dict[str, Callable[[], LabelledFeatures]]:
    """What a student may be trained on, by a name for the table; the first `labelled` texts have labels."""
    count = answers.shape[1]
    true = np.eye(count, dtype=np.float32)[both.labels[:labelled]]
    guessed = np.concatenate([both.labels[:labelled], answers[labelled:].argmax(1)])

    def soft(share: float, of_labelled: np.ndarray) -> LabelledFeatures:
        targets = answers.astype(np.float32)
        targets[:labelled] = share * true + (1 - share) * of_labelled
        return replace(both, labels=guessed, soft=targets)

    kinds: dict[str, Callable[[], LabelledFeatures]] = {
        "labels alone": lambda: both.take(np.arange(labelled)),
        "label and teacher half and half": lambda: soft(0.5, answers[:labelled]),
        "the same without the further texts": lambda: soft(0.5, answers[:labelled]).take(np.arange(labelled)),
        "label; teacher where there is none": lambda: soft(1.0, answers[:labelled]),
        "teacher alone": lambda: soft(0.0, answers[:labelled]),
        "the teacher's answers as labels": lambda: replace(both, labels=guessed),
        "labels of all texts, which nobody has": lambda: both,
    }
    if out_of_fold is not None:
        kinds["half and half, teacher out of fold"] = lambda: soft(0.5, out_of_fold)
    return kinds


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Folder of go_emotion.")
    parser.add_argument("--teacher", nargs="+", default=["minilm-l6", "smollm2-135m"], metavar="ENCODER")
    parser.add_argument("--student", default="minilm-l6", metavar="ENCODER", help="One of the teacher's.")
    parser.add_argument("--store")
    parser.add_argument("--labelled", type=int, default=2000)
    parser.add_argument("--further", type=int, default=4000)
    parser.add_argument("--valid", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draw", type=int, default=0)
    given = parser.parse_args()
    task, store, order = (
        load_task(TaskConfig(name="go_emotion", data=given.data)),
        FeatureStore(given.store),
        np.random.default_rng(given.draw),
    )
    teachers = [identify(one, CPU) for one in parse_encoders(given.teacher, features="tokens")]
    students = [identify(one, CPU) for one in parse_encoders([given.student], features="tokens")]
    learned = order.permutation(len(task.split("train")))[: given.labelled + given.further]
    held = order.permutation(len(task.split("valid")))

    def read(split: str, rows: np.ndarray) -> LabelledFeatures:
        texts = task.split(split).take(rows).texts
        for one in teachers:
            extract_features(texts, one, store, CPU, Progress())
        return LabelledFeatures(read_features(texts, teachers, store), task.targets(split)[rows])

    both, valid, judge = (
        read("train", learned),
        read("valid", held[: given.valid]),
        read("valid", held[given.valid :]),
    )
    classes = len(task.labels)
    labelled = both.take(np.arange(given.labelled))
    teacher = train("ensemble", recipe("default", "ensemble"), labelled, valid, classes, 0, CPU, Progress())
    of_judge = probabilities(teacher, judge).argmax(1)
    found, fold = probabilities(teacher, both), teacher.out_of_fold
    out_of_fold = None if fold is None else teacher.decision.probabilities(fold.logits)
    print(f"teacher: {100 * (of_judge == judge.labels).mean():.2f}, {given.labelled} labelled texts")
    both, valid, judge = (of_encoders(part, students) for part in (both, valid, judge))
    for name, targets in kinds_of_targets(both, given.labelled, found, out_of_fold).items():
        data, right, same, nll = targets(), [], [], []
        training = recipe("default", HEAD.name) if data.soft is None else TRAINING
        for seed in range(given.seeds):
            scores = probabilities(train(HEAD, training, data, valid, classes, seed, CPU, QUIET), judge)
            answers = scores.argmax(1)
            nll.append(-np.log(scores[np.arange(len(judge)), judge.labels] + 1e-9).mean())
            right.append(100 * (answers == judge.labels).mean())
            same.append(100 * (answers == of_judge).mean())
        spread = statistics.stdev(right) if given.seeds > 1 else 0.0
        print(
            f"{statistics.mean(right):6.2f} ± {spread:.2f}  same as teacher {statistics.mean(same):.1f}  "
            f"negative log-likelihood {np.mean(nll):.3f}  {name}"
        )


if __name__ == "__main__":
    main()
