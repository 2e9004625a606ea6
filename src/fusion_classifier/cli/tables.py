"""What the command line shows a person: tables on standard output."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.bar import Bar
from rich.color import Color
from rich.console import Console
from rich.markup import escape
from rich.style import Style
from rich.table import Table
from rich.text import Text

from fusion_classifier.cli.messages import in_options
from fusion_classifier.evaluation.formats import METRIC_TITLES, format_metric, size

if TYPE_CHECKING:
    from fusion_classifier.classifier.explanation import Explanation
    from fusion_classifier.features.store import StoreEntry


def table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: int = 99) -> Table:
    """A plain table; columns from number `right` on are right-aligned."""
    result = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for position, column in enumerate(columns):
        result.add_column(column, justify="right" if position >= right else "left", overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result


def print_tasks(described: Sequence[Mapping[str, Any]]) -> None:
    """The tasks with a name."""
    rows = [[d["name"], d["title"], str(d["labels"]), d["source"], d["licence"]] for d in described]
    out = console()
    out.print(table(None, ["task", "title", "labels", "source without --data", "licence"], rows))
    _say(out, "Your own data: fec run FILE_OR_FOLDER (CSV, TSV, JSONL, Parquet) --text-column … --label-column …")


def print_encoders(described: Sequence[Mapping[str, Any]]) -> None:
    """The encoders with a name."""
    columns = ["model", "layers", "pooling", "feature", "weights"]
    out = console()
    out.print(table(None, ["encoder", *columns], [[d["name"], *(d[key] for key in columns)] for d in described]))
    _say(out, "Any other Hub id, local folder or GGUF file works the same way: --encoder PATH --layers … --pooling …")


def print_models(described: Sequence[Mapping[str, Any]]) -> None:
    """The models of the package."""
    rows = [
        [
            *(d["name"], d["task"], str(len(d["labels"])), d["head"], ", ".join(d["encoders"]), size(d["bytes"])),
            *(f"{100 * d['test'][metric]:.1f}" for metric in ("accuracy", "weighted_f1")),
        ]
        for d in described
    ]
    columns = ["model", "task", "labels", "head", "encoders", "size", "accuracy", "weighted F1"]
    out = console()
    out.print(table(None, columns, rows))
    _say(out, "Scores on test, in %, mean over seeds. Any run or model folder and any Hub id works the same way.")


def print_store(root: str, entries: "Sequence[StoreEntry]") -> None:
    """The features in a store."""
    rows = []
    for entry in entries:
        shape = ("L, " if entry.ragged else "") + ", ".join(map(str, entry.shape))
        rows.append([entry.encoder, f"({shape})", entry.dtype, f"{entry.rows:,}", size(entry.bytes), entry.key])
    columns = ["encoder", "feature", "computed in", "texts", "size", "key"]
    console().print(table(root, columns, rows))


def metrics_table(title: str, columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """Metrics by split: mean ± standard deviation over seeds, with the bootstrap interval where there is one."""
    rows = []
    there = next(iter(columns.values()))
    for metric, name in METRIC_TITLES.items():
        if metric not in there:
            continue
        rows.append([name, *(str(format_metric(metric, figures[metric])) for figures in columns.values())])
    return table(title, ["", *columns], rows, right=1)


def per_class_table(title: str, figures: Mapping[str, Mapping[str, float]]) -> Table:
    """Precision, recall and F1 of each class, best F1 first."""
    order = sorted(figures.items(), key=lambda item: -item[1]["f1"])
    rows = [
        [
            name,
            *(f"{100 * values[key]:.1f}" for key in ("precision", "recall", "f1")),
            f"{values['support']:,.0f}",
        ]
        for name, values in order
    ]
    return table(title, ["label", "precision", "recall", "F1", "texts"], rows, right=1)


def print_run(metrics: Mapping[str, Any], folder: Path) -> None:
    """The result of `fec run`, and what to do next."""
    columns = {"validation": metrics["valid"]}
    if metrics["test"] is not None:
        columns["test"] = metrics["test"]
    if metrics["test_without_overlap"] is not None:
        columns["test without overlap"] = metrics["test_without_overlap"]
    seeds = len(metrics["seeds"])
    title = (
        f"{metrics['task']} · {' + '.join(metrics['encoders'])} · {metrics['head']} · {seeds} seed{'s'[: seeds > 1]}"
    )
    out = console()
    out.print(metrics_table(title, columns))
    out.print(
        "Accuracies, F1 and ECE in %; mean"
        + (" ± standard deviation over seeds" if seeds > 1 else "")
        + "; in brackets the 95 % bootstrap interval over texts.",
        style="dim",
    )
    if metrics["test"] is None:
        out.print("The task has no test split: validation is reported, on which the best epoch was chosen.")
    if metrics["test_without_overlap"] is not None:
        apart = metrics["rows"]["test"] - metrics["rows"]["test_without_overlap"]
        out.print(
            f"{apart:,} test texts also stand in train, up to case and punctuation; the last column leaves them out."
        )
    out.print(f"\nWritten to {folder}: metrics.json, predictions.parquet, model/ and pictures. Next:", markup=False)
    out.print(f'  fec predict {folder} "a text of yours" --top-k 3', markup=False, highlight=False)
    if metrics["task"] == "demo":
        out.print("  fec run yours.csv --text-column … --label-column …", markup=False, highlight=False)
        out.print("The demo corpus is small and easy: its scores are no result.", style="dim")


def print_evaluation(figures: Mapping[str, Any]) -> None:
    """The result of `fec evaluate`."""
    split = figures["split"]
    columns = {split: figures[split]["metrics"]}
    if figures[split]["without_overlap"] is not None:
        columns[f"{split} without overlap"] = figures[split]["without_overlap"]["metrics"]
    out = console()
    out.print(metrics_table(f"{figures['task']} · {split}: {figures[split]['rows']:,} texts", columns))
    out.print(per_class_table("By label, best first (mean over seeds, %)", figures[split]["per_class"]))


def print_comparison(figures: Mapping[str, Any], names: tuple[str, str]) -> None:
    """The result of `fec compare`; `names` of the two runs."""
    out = console()
    a, b = (escape(f"{side}: {name}") if name != side else side for side, name in zip("AB", names, strict=True))
    rows = []
    for metric, found in figures["metrics"].items():
        cells = [str(format_metric(metric, found[side])) for side in ("a", "b")]
        difference = f"{100 * found['difference']:+.2f}"
        if found["ci95"] is not None:
            low, high = found["ci95"]
            difference += f"  [{100 * low:+.1f}, {100 * high:+.1f}]"
        p = "" if found["p"] is None else _p(found["p"])
        rows.append([METRIC_TITLES[metric], *cells, difference, p])
    title = f"{figures['split']}: {figures['texts']:,} texts"
    out.print(table(title, ["", a, b, "A − B", "p"], rows, right=1))
    out.print(
        "In %; mean ± standard deviation over seeds; in brackets the 95 % interval of a paired bootstrap over texts.",
        style="dim",
    )
    tests = figures["mcnemar"]
    rows = [
        [f"{pair['seed_a']} : {pair['seed_b']}", f"{pair['a_only']:,}", f"{pair['b_only']:,}", _p(pair["p"])]
        for pair in tests["by_seed"]
    ]
    one = tests["ensemble"]
    rows.append(["mean of all seeds", f"{one['a_only']:,}", f"{one['b_only']:,}", _p(one["p"])])
    columns = ["seed of A : B", "only A right", "only B right", "p"]
    out.print(table("McNemar's exact test", columns, rows, right=1))
    if one["cohens_g"] is not None:
        low, high = one["cohens_g_ci95"]
        odds = [_odds(value) for value in (one["odds_ratio"], *one["odds_ratio_ci95"])]
        out.print(
            f"Of the texts that only one has right (mean of all seeds): odds A : B {odds[0]} [{odds[1]}, {odds[2]}], "
            f"Cohen's g {one['cohens_g']:+.2f} [{low:+.2f}, {high:+.2f}] (0.05 small, 0.15 medium, 0.25 large).",
            highlight=False,
            markup=False,
        )
    out.print("\n" + figures["sentence"], highlight=False, markup=False, style="bold")
    for note in figures["notes"]:
        out.print(note, highlight=False, markup=False)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _odds(value: float | None) -> str:
    return "∞" if value is None else f"{value:.2f}"


def print_ablation(figures: Mapping[str, Any], folder: Path) -> None:
    """The result of `fec ablate`."""
    out = console()
    rows = [
        [
            one["head"],
            escape(" + ".join(one["encoders"])),
            *(str(format_metric(metric, one["metrics"][metric])) for metric in ("accuracy", "weighted_f1")),
            f"{one['training_seconds']:.0f} s",
        ]
        for one in sorted(figures["combinations"], key=lambda one: -one["metrics"]["accuracy"]["mean"])
    ]
    title = f"{figures['task']} · {figures['split']}: {figures['texts']:,} texts, {len(figures['seeds'])} seeds"
    out.print(table(escape(title), ["head", "encoders", "accuracy", "weighted F1", "training"], rows, right=2))
    rows = []
    for one in figures["added"]:
        found = one["metrics"]["accuracy"]
        interval = ""
        if found["ci95"] is not None:
            interval = f"  [{100 * found['ci95'][0]:+.1f}, {100 * found['ci95'][1]:+.1f}]"
        to = " + ".join(one["to"]) + (" (the best single encoder)" if one.get("best_single") else "")
        p = "" if found["p"] is None else _p(found["p"])
        rows.append(
            [one["head"], escape(one["encoder"]), escape(to), f"{100 * found['difference']:+.2f}{interval}", p]
        )
    if rows:
        columns = ["head", "what this adds", "to", "points of accuracy", "p"]
        out.print(table("Paired bootstrap over texts", columns, rows, right=3))
    _say(out, f"\nWritten to {folder}: ablation.json, ablation.png, and a run folder for each row.")


MOST_ROWS = 15  # of a list by label on the screen; the files have all


def print_audit(figures: Mapping[str, Any], folder: Path) -> None:
    """The result of `fec audit`."""
    out = console()
    splits = list(figures["splits"])
    _print_lengths(out, figures)
    _print_duplicates(out, figures["duplicates"])
    labels = figures["labels"]
    order = sorted(labels["rows"], key=lambda label: -sum(labels["rows"][label].values()))
    shown = order if len(order) <= MOST_ROWS else [*order[:5], *order[-5:]]
    rows = [
        [escape(label), *(_share(labels["rows"][label][s], figures["splits"][s]["rows"]) for s in splits)]
        for label in shown
    ]
    if len(shown) < len(order):
        rows.insert(5, [f"… {len(order) - 10} more", *("" for _ in splits)])
    out.print(table(f"Labels: {len(order)}", ["label", *splits], rows, right=1))
    for split, missing in labels["missing"].items():
        if missing:
            _say(out, f"No row in {split}: {_several(missing)}.")
    if labels["few"]:
        _say(out, f"Fewer than {labels['few_rows']} rows to learn from: {_several(labels['few'])}.")
    _print_label_words(out, figures)
    if figures["label_errors"] is not None:
        _print_label_errors(out, figures["label_errors"])
    for note in figures["notes"]:
        _say(out, in_options(note))
    _say(out, f"\nWritten to {folder}: audit.json and tables as CSV.")


def _print_lengths(out: Console, figures: Mapping[str, Any]) -> None:
    measures = {
        "characters": {name: split["characters"] for name, split in figures["splits"].items()},
        "words": {name: split["words"] for name, split in figures["splits"].items()},
    } | {f"tokens of {name}": encoder["splits"] for name, encoder in figures["tokens"].items()}
    rows = []
    for measure, by_split in measures.items():
        for split, found in by_split.items():
            numbers = [f"{found['mean']:.1f}", *(f"{found[key]:,.0f}" for key in ("median", "p95", "max"))]
            rows.append([escape(measure), split, *numbers, f"{found['too_long']:,}" if "too_long" in found else ""])
    sizes = ", ".join(f"{split['rows']:,} {name}" for name, split in figures["splits"].items())
    columns = ["length in", "split", "mean", "median", "95 %", "longest", "cut off"]
    out.print(table(escape(f"{figures['task']}: {sizes} rows"), columns, rows, right=2))
    limits = [f"{encoder['max_length']} tokens ({name})" for name, encoder in figures["tokens"].items()]
    if limits:
        _say(out, f"Cut off: texts longer than {', '.join(limits)}; --max-length sets it.", style="dim")


def _print_duplicates(out: Console, found: Mapping[str, Any]) -> None:
    rows = [[f"again in {name}", f"{n['exact']:,}", f"{n['normalized']:,}"] for name, n in found["within"].items()]
    rows += [[name, f"{n['exact']:,}", f"{n['normalized']:,}"] for name, n in found["across"].items()]
    rows += [
        [f"{what} with different labels", *(f"{n[key]:,}" for key in ("exact", "normalized"))]
        for what, n in (
            ("same texts", found["conflicting_texts"]),
            ("rows of same texts", found["conflicting_rows"]),
        )
    ]
    columns = ["rows whose text stands", "to the letter", "up to case and punctuation"]
    out.print(table("Duplicates", columns, rows, right=1))


def _print_label_words(out: Console, figures: Mapping[str, Any]) -> None:
    found = figures["label_words"]
    if found["unnamed"]:
        _say(out, f"Not looked for in the texts, because they are no words: {_several(found['unnamed'])}.")
    if not found["by_label"]:
        return
    rows = [
        [name, _share(found["own"][name], split["rows"]), _share(found["other"][name], split["rows"])]
        for name, split in figures["splits"].items()
    ]
    columns = ["split", "its own label's", "another label's"]
    out.print(table("Texts that contain the name of a label", columns, rows, right=1))
    order = sorted((word for word in found["by_label"] if word["found"]), key=lambda word: -word["own"])
    rows = [
        [escape(w["label"]), _share(w["own"], w["rows"]), f"{w['found']:,}", f"{100 * w['own'] / w['found']:.0f} %"]
        for w in order[:MOST_ROWS]
    ]
    columns = ["label", "its rows with its name", "all texts with its name", "of these it is the label"]
    if rows:
        out.print(table(f"Label names in texts, most first ({len(rows)} of {len(order)})", columns, rows, right=1))


def _print_label_errors(out: Console, found: Mapping[str, Any]) -> None:
    rows = [[escape(p["given"]), escape(p["suggested"]), f"{p['rows']:,}"] for p in found["pairs"][:MOST_ROWS]]
    if rows:
        out.print(table("Doubtful labels, most first", ["given", "suggested", "rows"], rows, right=2))
    _say(
        out,
        f"The labels of {_share(found['issues'], found['rows'])} of {found['rows']:,} rows in "
        f"{' and '.join(found['splits'])} are doubtful: by confident learning on {' + '.join(found['encoders'])}, "
        f"each text predicted from the others, {100 * found['out_of_fold_accuracy']:.1f} % as labelled. These are "
        "rows to look at, worst first in label_issues.csv, not errors: where a model often errs, its doubt does too.",
    )


AGREEMENTS = {
    "head": "head, from the same features",
    "text_to_probabilities": "text to probabilities, all in float32",
    "with_the_classifiers_precision": "text to probabilities, encoders as trained",
}


def print_export(agreement: Mapping[str, Any], files: Sequence[str], folder: Path) -> None:
    """How well exported graphs agree with the classifier, and what was written."""
    out = console()
    rows = []
    for part, title in AGREEMENTS.items():
        if part in agreement:
            figures = agreement[part]
            dtypes = ", ".join(dict.fromkeys(figures.get("dtypes", {}).values()))
            rows.append(
                [
                    f"{title} ({dtypes})" if dtypes else title,
                    f"{figures['max_probability_difference']:.1e}",
                    f"{100 * figures['equal_labels']:.1f} %",
                ]
            )
    columns = [
        f"graphs against PyTorch, {agreement['texts']} texts",
        "largest difference of a probability",
        "equal labels",
    ]
    out.print(table(None, columns, rows, right=1))
    _say(out, f"Written to {folder}: {', '.join(name for name in files if '/' not in name)}")
    if "text_to_probabilities" in agreement:
        _say(out, f"Next: python {folder / 'predict.py'} 'a text'  (needs onnxruntime, tokenizers and numpy only)")


def _share(count: int, whole: int) -> str:
    return f"{count:,} ({100 * count / max(whole, 1):.1f} %)"


def _several(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_ROWS]) + (f" and {len(names) - MOST_ROWS} more" if len(names) > MOST_ROWS else "")


def _say(out: Console, text: str, style: str | None = None) -> None:
    out.print(text, highlight=False, markup=False, style=style)


def console() -> Console:
    """Standard output, wide enough for tables when it is not a terminal."""
    result = Console()
    return result if result.is_terminal else Console(width=120)


SHOWN_FROM = 0.01  # a probability below is summed up with its like
BAR_WIDTH = 30


def print_prediction(text: str, row: Sequence[tuple[str, float, bool]], top_k: int | None = None) -> None:
    """A text's labels as bars, those that are given in bold.

    Args:
        text: the text.
        row: label, probability and whether it is given, by falling probability.
        top_k: so many labels; unless given, those that are given or not improbable.
    """
    shown = [one for one in row if one[2] or one[1] >= SHOWN_FROM] if top_k is None else row[:top_k]
    out = console()
    out.print(Text(text, style="italic"))
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


# Shades of a word: the colour at a weight of 0 (none), and at the greatest of the text. Black letters on them.
FOR, AGAINST, BLANK = (255, 176, 66), (120, 170, 255), (245, 245, 245)
LEAST_SHADE = 0.05  # of the greatest weight; below, a word is left as it is


def print_explanation(explained: "Explanation") -> None:
    """The text with its words shaded by weight, and a table of them, greatest first."""
    out = console()
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
        bar = Bar(
            1, 0, abs(word.weight) / greatest, width=BAR_WIDTH, color="dark_orange" if word.weight > 0 else "blue"
        )
        name = word.text if len(word.text) <= 40 else f"{word.text[:39]}…"
        bars.add_row(Text(name), f"{word.weight:+.2f}", bar)
    out.print(bars)
    left = len(explained.words) - len(order)
    if left:
        _say(out, f"and {left} more with smaller weights", "dim")
    _say(out, f"Weights: what the log-odds of {explained.label} lose without the word; e^weight is a factor.", "dim")
