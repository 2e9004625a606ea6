"""Compares two run folders by their predictions."""

from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from statistics import mean
from typing import Any

from fusion_classifier.errors import DataError
from fusion_classifier.evaluation.formats import METRIC_TITLES, format_metric
from fusion_classifier.evaluation.predictions import PREDICTIONS_FILE, read_predictions, reported_split
from fusion_classifier.evaluation.significance import Comparison, compare, in_words
from fusion_classifier.support.files import user_path
from fusion_classifier.support.html import html_table
from fusion_classifier.support.text import counted


@dataclass(frozen=True)
class RunComparison:
    """Two runs on one split."""

    runs: tuple[Path, Path]
    names: tuple[str, str]
    """Names of the folders; A and B if they are equal."""
    split: str
    found: Comparison
    sentence: str
    """The verdict in words."""
    notes: tuple[str, ...]
    """Notes for readers of the figures."""

    def _repr_html_(self) -> str:
        """For notebooks."""
        figures, sides = self.figures(), ("a", "b")
        rows = []
        for metric, found in figures["metrics"].items():
            interval = ""
            if found["ci95"] is not None:
                low, high = found["ci95"]
                interval = f"{100 * found['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            rows.append([METRIC_TITLES[metric], *(format_metric(metric, found[side]) for side in sides), interval])
        header = ["", *self.names, "difference with 95% interval, points"]
        notes = "".join(f"<p>{escape(note)}</p>" for note in (self.sentence, *self.notes))
        return f"<b>{self.split}: {counted(figures['texts'], 'text')}</b>{html_table(header, rows)}{notes}"

    def figures(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        found, ensembles = self.found, asdict(self.found.ensembles)
        test = ensembles.pop("test")
        metrics = {name: asdict(one) for name, one in found.metrics.items()}
        for one in metrics.values():
            one |= {side: {"mean": mean(one[side]), "values": list(one[side])} for side in ("a", "b")}
        sides = zip(("a", "b"), self.runs, (found.seeds_a, found.seeds_b), strict=True)
        return {
            "split": self.split,
            "texts": found.texts,
            "runs": {side: {"folder": str(folder), "seeds": list(seeds)} for side, folder, seeds in sides},
            "metrics": metrics,
            "mcnemar": {
                "by_seed": [{"seed_a": a, "seed_b": b, **asdict(one)} for (a, b), one in found.by_seed.items()],
                "ensemble": ensembles | test,
            },
            "verdict": found.verdict,
            "sentence": self.sentence,
            "notes": list(self.notes),
        }


def compare_runs(a: Path, b: Path, split: str | None = None) -> RunComparison:
    """Compare two runs.

    Args:
        a: Run folder.
        b: Another, on the same texts.
        split: test or valid. Default: test if both have it.

    Raises:
        UsageError: Unknown split.
        FecError: A folder is not a run, has no predictions, or the two were not evaluated on the same texts.
    """
    parts = {folder: read_predictions(user_path(str(folder)) / PREDICTIONS_FILE) for folder in (a, b)}
    chosen = reported_split(parts, split)
    try:
        found = compare(parts[a][chosen], parts[b][chosen])
    except DataError as error:
        raise DataError(f"{a} and {b}, {chosen} split: {error}") from error
    notes = []
    if split is None and chosen == "valid":
        notes.append(
            "Validation is compared, because not both runs have a test split. If settings were chosen on it, the "
            "scores are slightly too high."
        )
    counts = len(found.seeds_a), len(found.seeds_b)
    if min(counts) == 1:
        notes.append("A run has a single seed: the variation between seeds is unknown.")
    if counts[0] != counts[1]:
        notes.append(
            f"The runs have {counts[0]} and {counts[1]} seeds: McNemar's test by seed covers the first {min(counts)} "
            "only, all other figures cover every seed."
        )
    names = a.resolve().name, b.resolve().name
    names = names if names[0] != names[1] else ("A", "B")
    return RunComparison((a, b), names, chosen, found, in_words(found, *names), tuple(notes))
