"""Results on standard output, for a person: tables, bars, sentences."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.bar import Bar
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from fusion_classifier.cli.messages import in_options
from fusion_classifier.evaluation.formats import METRIC_TITLES, format_metric, size

if TYPE_CHECKING:
    from fusion_classifier.classifier.explanation import Explanation
    from fusion_classifier.features.store import StoreEntry

MOST_ROWS = 15  # of a list on the screen; files have all
BAR_WIDTH = 30
Rows = Iterable[Sequence[str]]


class Output(Console):
    """Standard output, wide enough for tables where it is no terminal. Text is printed as it is, without markup."""

    def __init__(self) -> None:
        super().__init__()
        if not self.is_terminal:
            self.width = 120

    def say(self, text: str, style: str | None = None) -> None:
        """A line of text."""
        self.print(Text(text, style or ""))

    def table(self, title: str | None, columns: Sequence[str], rows: Rows, *, right: int = 99) -> None:
        """A table; columns from number `right` on are right-aligned."""
        table = Table(title=title and Text(title), title_justify="left", title_style="bold", header_style="bold")
        for position, column in enumerate(columns):
            table.add_column(Text(column), justify="right" if position >= right else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        self.print(table)


# --- lists -------------------------------------------------------------------------------------------------


def print_tasks(described: Sequence[Mapping[str, Any]]) -> None:
    """The tasks with a name."""
    rows = [[d["name"], d["title"], str(d["labels"]), d["source"], d["licence"]] for d in described]
    out = Output()
    out.table(None, ["task", "title", "labels", "source without --data", "licence"], rows)
    out.say("Your own data: fec run FILE_OR_FOLDER (CSV, TSV, JSONL, Parquet) --text-column … --label-column …")


def print_encoders(described: Sequence[Mapping[str, Any]]) -> None:
    """The encoders with a name."""
    columns = ["model", "layers", "pooling", "feature", "weights"]
    out = Output()
    out.table(None, ["encoder", *columns], [[d["name"], *(d[key] for key in columns)] for d in described])
    out.say("Any other Hub id, local folder or GGUF file works the same way: --encoder PATH --layers … --pooling …")


def print_models(described: Sequence[Mapping[str, Any]]) -> None:
    """The models of the package."""
    rows = [
        [
            *(d["name"], d["task"], str(len(d["labels"])), d["head"], ", ".join(d["encoders"]), size(d["bytes"])),
            *(f"{100 * d['test'][metric]:.1f}" for metric in ("accuracy", "weighted_f1")),
        ]
        for d in described
    ]
    out = Output()
    out.table(None, ["model", "task", "labels", "head", "encoders", "size", "accuracy", "weighted F1"], rows)
    out.say("Scores on test, in %, mean over seeds. Any run or model folder and any Hub id works the same way.")


def print_store(root: str, entries: "Sequence[StoreEntry]") -> None:
    """The features in a store."""
    rows = []
    for entry in entries:
        shape = ("L, " if entry.ragged else "") + ", ".join(map(str, entry.shape))
        rows.append([entry.encoder, f"({shape})", entry.dtype, f"{entry.rows:,}", size(entry.bytes), entry.key])
    Output().table(root, ["encoder", "feature", "computed in", "texts", "size", "key"], rows)


# --- runs --------------------------------------------------------------------------------------------------


def _print_metrics(out: Output, title: str, columns: Mapping[str, Mapping[str, Any]]) -> None:
    """Metrics by split: mean ± standard deviation over seeds, with the bootstrap interval where there is one."""
    there = next(iter(columns.values()))
    rows = [
        [name, *(str(format_metric(metric, figures[metric])) for figures in columns.values())]
        for metric, name in METRIC_TITLES.items()
        if metric in there
    ]
    out.table(title, ["", *columns], rows, right=1)


def print_run(metrics: Mapping[str, Any], folder: Path) -> None:
    """The result of `fec run`, and what to do next."""
    splits = {"validation": "valid", "test": "test", "test without overlap": "test_without_overlap"}
    seeds = len(metrics["seeds"])
    encoders = " + ".join(metrics["encoders"])
    out = Output()
    _print_metrics(
        out,
        f"{metrics['task']} · {encoders} · {metrics['head']} · {seeds} seed{'s'[: seeds > 1]}",
        {title: metrics[split] for title, split in splits.items() if metrics[split] is not None},
    )
    spread = " ± standard deviation over seeds" if seeds > 1 else ""
    out.say(f"Accuracies, F1 and ECE in %; mean{spread}; in brackets the 95 % bootstrap interval over texts.", "dim")
    if metrics["test"] is None:
        out.say("The task has no test split: validation is reported, on which the best epoch was chosen.")
    if metrics["test_without_overlap"] is not None:
        apart = metrics["rows"]["test"] - metrics["rows"]["test_without_overlap"]
        out.say(
            f"{apart:,} test texts also stand in train, up to case and punctuation; the last column leaves them out."
        )
    out.say(f"\nWritten to {folder}: metrics.json, predictions.parquet, model/ and pictures. Next:")
    out.say(f'  fec predict {folder} "a text of yours" --top-k 3')
    if metrics["task"] == "demo":
        out.say("  fec run yours.csv --text-column … --label-column …")
        out.say("The demo corpus is small and easy: its scores are no result.", "dim")


def print_evaluation(figures: Mapping[str, Any]) -> None:
    """The result of `fec evaluate`."""
    split = figures["split"]
    found = figures[split]
    columns = {split: found["metrics"]}
    if found["without_overlap"] is not None:
        columns[f"{split} without overlap"] = found["without_overlap"]["metrics"]
    out = Output()
    _print_metrics(out, f"{figures['task']} · {split}: {found['rows']:,} texts", columns)
    rows = [
        [label, *(f"{100 * one[key]:.1f}" for key in ("precision", "recall", "f1")), f"{one['support']:,.0f}"]
        for label, one in sorted(found["per_class"].items(), key=lambda item: -item[1]["f1"])
    ]
    title = "By label, best first (mean over seeds, %)"
    out.table(title, ["label", "precision", "recall", "F1", "texts"], rows, right=1)


def _difference(found: Mapping[str, Any]) -> tuple[str, str]:
    """A difference in points with its interval, and its p value."""
    interval = "" if found["ci95"] is None else "  [{:+.1f}, {:+.1f}]".format(*(100 * end for end in found["ci95"]))
    return f"{100 * found['difference']:+.2f}{interval}", _p(found["p"])


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def print_comparison(figures: Mapping[str, Any], names: tuple[str, str]) -> None:
    """The result of `fec compare`; `names` of the two runs."""
    out = Output()
    rows = [
        [
            METRIC_TITLES[metric],
            *(str(format_metric(metric, found[side])) for side in ("a", "b")),
            *_difference(found),
        ]
        for metric, found in figures["metrics"].items()
    ]
    a, b = (f"{side}: {name}" if name != side else side for side, name in zip("AB", names, strict=True))
    out.table(f"{figures['split']}: {figures['texts']:,} texts", ["", a, b, "A − B", "p"], rows, right=1)
    out.say(
        "In %; mean ± standard deviation over seeds; in brackets the 95 % interval of a paired bootstrap over texts.",
        "dim",
    )
    one = figures["mcnemar"]["ensemble"]
    tests = [(f"{pair['seed_a']} : {pair['seed_b']}", pair) for pair in figures["mcnemar"]["by_seed"]]
    rows = [
        [name, f"{test['a_only']:,}", f"{test['b_only']:,}", _p(test["p"])]
        for name, test in [*tests, ("mean of all seeds", one)]
    ]
    out.table("McNemar's exact test", ["seed of A : B", "only A right", "only B right", "p"], rows, right=1)
    if one["cohens_g"] is not None:
        low, high = one["cohens_g_ci95"]
        ratios = (one["odds_ratio"], *one["odds_ratio_ci95"])
        odds = ["∞" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        out.say(
            f"Of the texts that only one has right (mean of all seeds): odds A : B {odds[0]} [{odds[1]}, {odds[2]}], "
            f"Cohen's g {one['cohens_g']:+.2f} [{low:+.2f}, {high:+.2f}] (0.05 small, 0.15 medium, 0.25 large)."
        )
    out.say("\n" + figures["sentence"], "bold")
    for note in figures["notes"]:
        out.say(in_options(note))


def print_ablation(figures: Mapping[str, Any], folder: Path) -> None:
    """The result of `fec ablate`."""
    out = Output()
    rows = [
        [
            *(one["head"], " + ".join(one["encoders"])),
            *(str(format_metric(metric, one["metrics"][metric])) for metric in ("accuracy", "weighted_f1")),
            f"{one['training_seconds']:.0f} s",
        ]
        for one in sorted(figures["combinations"], key=lambda one: -one["metrics"]["accuracy"]["mean"])
    ]
    title = f"{figures['task']} · {figures['split']}: {figures['texts']:,} texts, {len(figures['seeds'])} seeds"
    out.table(title, ["head", "encoders", "accuracy", "weighted F1", "training"], rows, right=2)
    rows = []
    for one in figures["added"]:
        to = " + ".join(one["to"]) + (" (the best single encoder)" if one.get("best_single") else "")
        rows.append([one["head"], one["encoder"], to, *_difference(one["metrics"]["accuracy"])])
    if rows:
        columns = ["head", "what this adds", "to", "points of accuracy", "p"]
        out.table("Paired bootstrap over texts", columns, rows, right=3)
    out.say(f"\nWritten to {folder}: ablation.json, ablation.png, and a run folder for each row.")


# --- audit -------------------------------------------------------------------------------------------------


def print_audit(figures: Mapping[str, Any], folder: Path) -> None:
    """The result of `fec audit`."""
    out = Output()
    _print_lengths(out, figures)
    _print_duplicates(out, figures["duplicates"])
    _print_labels(out, figures)
    _print_label_words(out, figures)
    if figures["label_errors"] is not None:
        _print_label_errors(out, figures["label_errors"])
    for note in figures["notes"]:
        out.say(in_options(note))
    out.say(f"\nWritten to {folder}: audit.json and tables as CSV.")


def _print_lengths(out: Output, figures: Mapping[str, Any]) -> None:
    measures = {
        measure: {name: split[measure] for name, split in figures["splits"].items()}
        for measure in ("characters", "words")
    } | {f"tokens of {name}": encoder["splits"] for name, encoder in figures["tokens"].items()}
    rows = []
    for measure, by_split in measures.items():
        for split, found in by_split.items():
            numbers = [f"{found['mean']:.1f}", *(f"{found[key]:,.0f}" for key in ("median", "p95", "max"))]
            rows.append([measure, split, *numbers, f"{found['too_long']:,}" if "too_long" in found else ""])
    sizes = ", ".join(f"{split['rows']:,} {name}" for name, split in figures["splits"].items())
    columns = ["length in", "split", "mean", "median", "95 %", "longest", "cut off"]
    out.table(f"{figures['task']}: {sizes} rows", columns, rows, right=2)
    limits = [f"{encoder['max_length']} tokens ({name})" for name, encoder in figures["tokens"].items()]
    if limits:
        out.say(f"Cut off: texts longer than {', '.join(limits)}; --max-length sets it.", "dim")


def _print_duplicates(out: Output, found: Mapping[str, Any]) -> None:
    counts = {f"again in {name}": count for name, count in found["within"].items()} | found["across"]
    counts["same texts with different labels"] = found["conflicting_texts"]
    counts["rows of same texts with different labels"] = found["conflicting_rows"]
    rows = [[name, f"{count['exact']:,}", f"{count['normalized']:,}"] for name, count in counts.items()]
    columns = ["rows whose text stands", "to the letter", "up to case and punctuation"]
    out.table("Duplicates", columns, rows, right=1)


def _print_labels(out: Output, figures: Mapping[str, Any]) -> None:
    labels, splits = figures["labels"], figures["splits"]
    order = sorted(labels["rows"], key=lambda label: -sum(labels["rows"][label].values()))
    shown = order if len(order) <= MOST_ROWS else [*order[:5], *order[-5:]]
    rows = [
        [label, *(_share(labels["rows"][label][name], split["rows"]) for name, split in splits.items())]
        for label in shown
    ]
    if len(shown) < len(order):
        rows.insert(5, [f"… {len(order) - 10} more", *("" for _ in splits)])
    out.table(f"Labels: {len(order)}", ["label", *splits], rows, right=1)
    for split, missing in labels["missing"].items():
        if missing:
            out.say(f"No row in {split}: {_several(missing)}.")
    if labels["few"]:
        out.say(f"Fewer than {labels['few_rows']} rows to learn from: {_several(labels['few'])}.")


def _print_label_words(out: Output, figures: Mapping[str, Any]) -> None:
    found = figures["label_words"]
    if found["unnamed"]:
        out.say(f"Not searched for in the texts, because they are no words: {_several(found['unnamed'])}.")
    if not found["by_label"]:
        return
    rows = [
        [name, _share(found["own"][name], split["rows"]), _share(found["other"][name], split["rows"])]
        for name, split in figures["splits"].items()
    ]
    columns = ["split", "its own label's", "another label's"]
    out.table("Texts that contain the name of a label", columns, rows, right=1)
    order = sorted((word for word in found["by_label"] if word["found"]), key=lambda word: -word["own"])
    rows = [
        [w["label"], _share(w["own"], w["rows"]), f"{w['found']:,}", f"{100 * w['own'] / w['found']:.0f} %"]
        for w in order[:MOST_ROWS]
    ]
    columns = ["label", "its rows with its name", "all texts with its name", "of these it is the label"]
    if rows:
        out.table(f"Label names in texts, most first ({len(rows)} of {len(order)})", columns, rows, right=1)


def _print_label_errors(out: Output, found: Mapping[str, Any]) -> None:
    rows = [[pair["given"], pair["suggested"], f"{pair['rows']:,}"] for pair in found["pairs"][:MOST_ROWS]]
    if rows:
        out.table("Doubtful labels, most first", ["given", "suggested", "rows"], rows, right=2)
    out.say(
        f"The labels of {_share(found['issues'], found['rows'])} of {found['rows']:,} rows in "
        f"{' and '.join(found['splits'])} are doubtful: by confident learning on {' + '.join(found['encoders'])}, "
        f"each text predicted from the others, {100 * found['out_of_fold_accuracy']:.1f} % as labelled. These are "
        "rows to look at, worst first in label_issues.csv, not errors: where a model often errs, its doubt does too."
    )


def _share(count: int, whole: int) -> str:
    return f"{count:,} ({100 * count / max(whole, 1):.1f} %)"


def _several(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_ROWS]) + (f" and {len(names) - MOST_ROWS} more" if len(names) > MOST_ROWS else "")


# --- models ------------------------------------------------------------------------------------------------

AGREEMENTS = {
    "head": "head, from the same features",
    "text_to_probabilities": "text to probabilities, all in float32",
    "with_the_classifiers_precision": "text to probabilities, encoders as trained",
}


def print_export(agreement: Mapping[str, Any], files: Sequence[str], folder: Path) -> None:
    """How well exported graphs agree with the classifier, and what was written."""
    out, rows = Output(), []
    for part, title in AGREEMENTS.items():
        if part in agreement:
            found = agreement[part]
            dtypes = ", ".join(dict.fromkeys(found.get("dtypes", {}).values()))
            difference, equal = f"{found['max_probability_difference']:.1e}", f"{100 * found['equal_labels']:.1f} %"
            rows.append([f"{title} ({dtypes})" if dtypes else title, difference, equal])
    against = f"graphs against PyTorch, {agreement['texts']} texts"
    out.table(None, [against, "largest difference of a probability", "equal labels"], rows, right=1)
    out.say(f"Written to {folder}: {', '.join(name for name in files if '/' not in name)}")
    if "text_to_probabilities" in agreement:
        out.say(f"Next: python {folder / 'predict.py'} 'a text'  (needs onnxruntime, tokenizers and numpy only)")


SHOWN_FROM = 0.01  # less probable labels are summed up


def print_prediction(text: str, row: Sequence[tuple[str, float, bool]], top_k: int | None = None) -> None:
    """A text's labels as bars, those of the answer in bold.

    Args:
        text: The text.
        row: Label, probability and whether it is in the answer, by falling probability.
        top_k: Number of labels. Default: those of the answer, and others that are not improbable.
    """
    shown = [one for one in row if one[2] or one[1] >= SHOWN_FROM] if top_k is None else row[:top_k]
    out = Output()
    out.say(text, "italic")
    bars = Table.grid(padding=(0, 1))
    for label, probability, given in shown:
        bar = Bar(1, 0, probability, width=BAR_WIDTH, color="cyan" if given else "bright_black")
        bars.add_row(Text(label, style="bold" if given else ""), f"{100 * probability:5.1f} %", bar)
    rest = row[len(shown) :]
    if rest and top_k is None:
        bars.add_row(Text(f"{len(rest)} others, each below {100 * SHOWN_FROM:.0f} %", style="dim"))
    if not any(given for *_, given in row):
        bars.add_row(Text("no label is given", style="dim"))
    out.print(bars)
    out.print()


# Backgrounds of a word, black on them: at the greatest weight of the text for and against, and at weight 0.
FOR, AGAINST, BLANK = (255, 176, 66), (120, 170, 255), (245, 245, 245)
LEAST_SHADE = 0.05  # share of the greatest weight below which a word is not shaded


def print_explanation(explained: "Explanation") -> None:
    """The text with its words shaded by weight, and the greatest weights as bars."""
    out = Output()
    greatest = max((abs(word.weight) for word in explained.words), default=0.0) or 1.0
    shaded = Text(explained.text)
    for word in explained.words:
        share = abs(word.weight) / greatest
        if share >= LEAST_SHADE:
            full = FOR if word.weight > 0 else AGAINST
            colour = Color.from_rgb(*(b + share * (f - b) for f, b in zip(full, BLANK, strict=True)))
            shaded.stylize(Style(color="black", bgcolor=colour.name), word.start, word.end)
    out.print(shaded)
    out.print(Text.assemble("\n", (explained.label, "bold"), f"  {100 * explained.probability:.1f} %"))
    bars = Table.grid(padding=(0, 1))
    order = sorted(explained.words, key=lambda word: -abs(word.weight))[:MOST_ROWS]
    for word in order:
        side = "dark_orange" if word.weight > 0 else "blue"
        name = word.text if len(word.text) <= 40 else f"{word.text[:39]}…"
        bars.add_row(
            Text(name), f"{word.weight:+.2f}", Bar(1, 0, abs(word.weight) / greatest, width=BAR_WIDTH, color=side)
        )
    out.print(bars)
    left = len(explained.words) - len(order)
    if left:
        out.say(f"and {left} more with smaller weights", "dim")
    out.say(f"Weights: what the log-odds of {explained.label} lose without the word; e^weight is a factor.", "dim")
