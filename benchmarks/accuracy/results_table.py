"""The table in docs/notebook/accuracy.md from run folders: one row per run and split.

python benchmarks/accuracy/results_table.py runs/go_emotion-linear runs/go_emotion-llmembed
"""

import argparse
import json
from pathlib import Path
from typing import Any

SPLITS = {"valid": "validation", "test": "test", "test_without_overlap": "test without overlap"}
COLUMNS = {
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "top3_accuracy": "top-3",
    "nll": "NLL",
    "ece": "ECE",
}


def cell(metric: str, figure: dict[str, Any]) -> str:
    """Mean ± standard deviation, with the interval if any."""
    if metric == "nll":
        return f"{figure['mean']:.3f}"
    text = f"{100 * figure['mean']:.2f} ± {100 * figure['std']:.2f}"
    if "ci95" in figure:
        text += " [{:.1f}, {:.1f}]".format(*(100 * end for end in figure["ci95"]))
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    arguments = parser.parse_args()
    print(f"| split | head | {' | '.join(COLUMNS.values())} |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    runs = [json.loads((run / "metrics.json").read_text()) for run in arguments.runs]
    for split, title in SPLITS.items():
        for metrics in runs:
            if metrics[split] is not None:
                cells = " | ".join(cell(metric, metrics[split][metric]) for metric in COLUMNS)
                print(f"| {title} | `{metrics['head']}` | {cells} |")


if __name__ == "__main__":
    main()
