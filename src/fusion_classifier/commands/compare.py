"""Two run folders against each other, by the predictions that they hold."""

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from fusion_classifier.errors import DataError, FecError, UsageError
from fusion_classifier.evaluation.predictions import PREDICTIONS_FILE, SplitPredictions, read_predictions
from fusion_classifier.evaluation.significance import Comparison, compare, in_words
from fusion_classifier.support.files import user_path

REPORTED_SPLITS = ("test", "valid")  # the first that both have is compared


@dataclass(frozen=True)
class RunComparison:
    """Two runs on one split; `notes` are what the reader of the figures has to know."""

    runs: tuple[Path, Path]
    names: tuple[str, str]
    split: str
    found: Comparison
    sentence: str
    notes: tuple[str, ...]

    def figures(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        ensembles = asdict(self.found.ensembles)
        test, effect = ensembles.pop("test"), ensembles.pop("effect")
        sides = (("a", self.runs[0], self.found.seeds_a), ("b", self.runs[1], self.found.seeds_b))
        return {
            "split": self.split,
            "texts": self.found.texts,
            "runs": {side: {"folder": str(folder), "seeds": list(seeds)} for side, folder, seeds in sides},
            "metrics": {
                name: asdict(one)
                | {
                    side: {"mean": mean(values), "values": list(values)}
                    for side, values in (("a", one.a), ("b", one.b))
                }
                for name, one in self.found.metrics.items()
            },
            "mcnemar": {
                "by_seed": [
                    {"seed_a": seed_a, "seed_b": seed_b, **asdict(test)}
                    for (seed_a, seed_b), test in self.found.by_seed.items()
                ],
                "ensemble": ensembles | test | effect,
            },
            "verdict": self.found.verdict,
            "sentence": self.sentence,
            "notes": list(self.notes),
        }


def compare_runs(a: Path, b: Path, split: str | None = None) -> RunComparison:
    """Compare two runs on a split: the one named, or test where both have it, else valid.

    Raises:
        UsageError: no split of this name.
        FecError: a folder is no run, has no predictions, or the two were not evaluated on the same texts.
    """
    if split is not None and split not in REPORTED_SPLITS:
        raise UsageError(f"--split {split!r}: choose from {', '.join(REPORTED_SPLITS)}; a run predicts these")
    parts = [_predictions(folder) for folder in (a, b)]
    notes = []
    if split is None:
        common = [name for name in REPORTED_SPLITS if all(name in part for part in parts)]
        if not common:
            have = " and ".join(", ".join(part) for part in parts)
            raise DataError(f"{a} and {b}: no split that both have predictions for (there: {have})")
        split = common[0]
        if split == "valid":
            notes.append(
                "Validation is compared, because not both runs have a test split. The best epoch of each run was "
                "chosen on it: the scores are a little too good, of both."
            )
    chosen = [_split(folder, part, split) for folder, part in zip((a, b), parts, strict=True)]
    try:
        found = compare(*chosen)
    except DataError as error:
        raise DataError(f"{a} and {b}, {split} split: {error}") from error
    if min(len(found.seeds_a), len(found.seeds_b)) == 1:
        notes.append(
            "A run with a single seed: how far another training seed would move it is not in these figures; "
            "train several with --seeds."
        )
    if len(found.seeds_a) != len(found.seeds_b):
        notes.append(
            f"McNemar's test by seed has the first {len(found.by_seed)} seeds only: the runs have "
            f"{len(found.seeds_a)} and {len(found.seeds_b)}. All else counts every seed."
        )
    names = _names(a, b)
    return RunComparison((a, b), names, split, found, in_words(found, *names), tuple(notes))


def _predictions(folder: Path) -> dict[str, SplitPredictions]:
    if not user_path(str(folder)).is_dir():
        raise FecError(f"{folder}: no such run folder; give a folder that `fec run` has written")
    path = folder / PREDICTIONS_FILE
    if not path.is_file():
        raise FecError(
            f"{folder}: has no {PREDICTIONS_FILE}; `fec run` writes it (with the same options as for `fec train` it "
            "takes up what is there)"
        )
    return read_predictions(path)


def _split(folder: Path, parts: dict[str, SplitPredictions], split: str) -> SplitPredictions:
    if split not in parts:
        raise DataError(f"{folder}: has no predictions for the {split} split (there: {', '.join(parts)})")
    return parts[split]


def _names(a: Path, b: Path) -> tuple[str, str]:
    """The folders' names where these tell them apart."""
    names = a.resolve().name, b.resolve().name
    return names if names[0] != names[1] else ("A", "B")
