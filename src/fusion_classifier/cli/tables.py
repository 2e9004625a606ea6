"""Human-readable results on standard output: tables, bars, sentences."""

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
from fusion_classifier.evaluation.formats import METRIC_TITLES, format_metric
from fusion_classifier.support.text import counted, size

if TYPE_CHECKING:
    from fusion_classifier.classifier.explanation import Explanation
    from fusion_classifier.commands.distill import Distilled
    from fusion_classifier.features.store import StoreEntry
    from fusion_classifier.onnx_export.optimize import Optimized

MAX_ROWS = 15  # of a list by label on the screen; the files have all
SCORES = ("precision", "recall", "f1")  # of a label
BAR_WIDTH = 30
SHOWN_FROM = 0.01  # less probable labels are summed up in one line
# Backgrounds of a word, black on them: at the largest weight of the text for and against, and at weight 0.
FOR, AGAINST, BLANK = (255, 176, 66), (120, 170, 255), (245, 245, 245)
MIN_SHADE = 0.05  # share of the largest weight below which a word is not shaded


def console() -> Console:
    """Standard output, wide enough for tables when it is not a terminal."""
    result = Console(highlight=False, markup=False)
    return result if result.is_terminal else Console(highlight=False, markup=False, width=120)


def say(text: str | Text, style: str | None = None) -> None:
    """Print a line as it is."""
    console().print(text, style=style)


def show(title: str | None, columns: Iterable[str], rows: Iterable[Sequence[object]], *, right: int = 99) -> None:
    """Print a table; columns from number `right` on are right-aligned, whole numbers get commas."""
    table = Table(title=title and Text(title, "bold"), title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if position >= right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row))
    console().print(table)


def print_tasks(described: Sequence[Mapping[str, Any]]) -> None:
    """The tasks with a name."""
    rows = [[d[key] for key in ("name", "title", "labels", "source", "licence")] for d in described]
    show(None, ["task", "title", "labels", "source without --data", "licence"], rows)
    say("Your own data: fec run FILE_OR_FOLDER (CSV, Excel, JSON, Parquet) --text-column … --label-column …")


def print_encoders(described: Sequence[Mapping[str, Any]]) -> None:
    """The encoders with a name."""
    columns = ["size", "languages", "licence", "pooling", "feature", "per text", "per token", "work"]
    rows = [
        [
            *(d["name"], f"{d['parameters'] / 1e6:,.0f} M", d["languages"], d["licence"], d["pooling"], d["feature"]),
            *(size(d["pooled_bytes"]), size(d["token_bytes"]), f"{d['token_flops'] / 1e6:,.0f} M", d["weights"]),
        ]
        for d in described
    ]
    show(None, ["encoder", *columns, "weights"], rows)
    say(
        "In the store: pooled features per text, token states per token (20 to 30 per sentence). Work: arithmetic "
        "operations per token. --json adds Hub ids, layers and prompts."
    )
    say("Any other Hub id, local folder or GGUF file works the same way: --encoder PATH --layers … --pooling …")


def print_models(described: Sequence[Mapping[str, Any]]) -> None:
    """The built-in models."""
    rows = []
    for d in described:
        scores = [percent(d["test"][metric]) for metric in ("accuracy", "weighted_f1")]
        encoders = ", ".join(d["encoders"])
        rows.append([d["name"], d["task"], len(d["labels"]), d["head"], encoders, size(d["bytes"]), *scores])
    show(None, ["model", "task", "labels", "head", "encoders", "size", "accuracy", "weighted F1"], rows)
    say("Scores on test, in %, mean over seeds. Any run or model folder and any Hub id works the same way.")


def print_store(root: str, entries: "Sequence[StoreEntry]") -> None:
    """The features in a store."""
    rows = []
    for entry in entries:
        shape = ("L, " if entry.ragged else "") + ", ".join(map(str, entry.shape))
        rows.append([entry.encoder, f"({shape})", entry.dtype, entry.rows, size(entry.bytes), entry.key])
    show(root, ["encoder", "feature", "computed in", "texts", "size", "key"], rows)


def show_metrics(title: str, columns: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Metrics by split: mean ± standard deviation over seeds, with the bootstrap interval where there is one."""
    there = {name: metrics for name, metrics in columns.items() if metrics is not None}
    names = [metric for metric in METRIC_TITLES if metric in next(iter(there.values()))]
    rows = [
        [METRIC_TITLES[name], *(format_metric(name, figures[name]) for figures in there.values())] for name in names
    ]
    show(title, ["", *there], rows, right=1)


def print_evaluation(figures: Mapping[str, Any]) -> None:
    """The result of `fec evaluate`."""
    split = figures["split"]
    found, apart = figures[split], figures[split]["without_overlap"]
    columns = {split: found["metrics"], f"{split} without overlap": apart and apart["metrics"]}
    show_metrics(f"{figures['task']} · {split}: {counted(found['rows'], 'text')}", columns)
    rows = [
        [label, *(percent(scores[key]) if scores["support"] else "–" for key in SCORES), int(scores["support"])]
        for label, scores in sorted(found["per_class"].items(), key=lambda item: -item[1]["f1"])
    ]
    title = "By label, best first (mean over seeds, %)"
    show(title, ["label", "precision", "recall", "F1", "texts"], rows, right=1)


def print_comparison(figures: Mapping[str, Any], names: tuple[str, str]) -> None:
    """The result of `fec compare`; `names` of the two runs."""
    a, b = (f"{side}: {name}" if name != side else side for side, name in zip("AB", names, strict=True))
    rows: list[list[object]] = [
        [METRIC_TITLES[metric], *(format_metric(metric, found[side]) for side in ("a", "b")), *_difference(found)]
        for metric, found in figures["metrics"].items()
    ]
    show(f"{figures['split']}: {counted(figures['texts'], 'text')}", ["", a, b, "A − B", "p"], rows, right=1)
    say(
        "In %; mean ± sample standard deviation over seeds; in brackets the 95% interval of a paired bootstrap over "
        "texts.",
        "dim",
    )
    by_seed, one = figures["mcnemar"]["by_seed"], figures["mcnemar"]["ensemble"]
    tests = [(f"{pair['seed_a']} : {pair['seed_b']}", pair) for pair in by_seed] + [("mean of all seeds", one)]
    rows = [[name, test["a_only"], test["b_only"], _p(test["p"])] for name, test in tests]
    show("McNemar's exact test", ["seed of A : B", "only A right", "only B right", "p"], rows, right=1)
    if one["cohens_g"] is not None:
        low, high = one["cohens_g_ci95"]
        ends = (one["odds_ratio"], *one["odds_ratio_ci95"])
        odds = ["∞" if value is None else f"{value:.2f}" for value in ends]
        say(
            "Of the texts that only one classifies correctly (mean of all seeds): "
            f"odds A : B {odds[0]} [{odds[1]}, {odds[2]}], "
            f"Cohen's g {one['cohens_g']:+.2f} [{low:+.2f}, {high:+.2f}] (0.05 small, 0.15 medium, 0.25 large)."
        )
    say("\n" + figures["sentence"], "bold")
    for note in figures["notes"]:
        say(note)


def print_ablation(figures: Mapping[str, Any], folder: Path) -> None:
    """The result of `fec ablate`."""
    rows = []
    for one in sorted(figures["combinations"], key=lambda one: -one["valid_accuracy"]):
        scores = [format_metric(metric, one["metrics"][metric]) for metric in ("accuracy", "weighted_f1")]
        rows.append([one["head"], " + ".join(one["encoders"]), *scores, f"{one['training_seconds']:.0f} s"])
    counts = f"{counted(figures['texts'], 'text')}, {counted(len(figures['seeds']), 'seed')}"
    title = f"{figures['task']} · {figures['split']}: {counts}"
    show(title, ["head", "encoders", "accuracy", "weighted F1", "training"], rows, right=2)
    say("The best on validation comes first.", "dim")
    rows = []
    for one in figures["added"]:
        to = " + ".join(one["to"]) + (" (the best single encoder on validation)" if one.get("best_single") else "")
        accuracy = one["metrics"]["accuracy"]
        rows.append([one["head"], one["encoder"], to, *_difference(accuracy | {"p": accuracy["p_holm"]})])
    if rows:
        columns = ["head", "what this adds", "to", "points of accuracy", "p, corrected"]
        show("Paired bootstrap over texts", columns, rows, right=3)
        say("p is corrected for the number of comparisons (Holm), the intervals are not.", "dim")
    if figures["split"] == "valid":
        say(
            "Validation also chose epochs, weights and calibration: these scores are optimistic. To report scores: "
            "--split test.",
            "dim",
        )
    say(f"\nWritten to {folder}: ablation.json, ablation.png, and a run folder for each row.")


def print_audit(figures: Mapping[str, Any], folder: Path) -> None:
    """The result of `fec audit`."""
    _show_lengths(figures)
    _show_duplicates(figures["duplicates"])
    _show_label_counts(figures)
    _show_label_words(figures)
    if figures["label_errors"] is not None:
        _show_label_errors(figures["label_errors"])
    for note in figures["notes"]:
        say(in_options(note))
    say(f"\nWritten to {folder}: audit.json and tables as CSV.")


def _show_lengths(figures: Mapping[str, Any]) -> None:
    splits, tokens = figures["splits"], figures["tokens"]
    measures = {unit: {name: split[unit] for name, split in splits.items()} for unit in ("characters", "words")}
    measures |= {f"tokens of {name}": encoder["splits"] for name, encoder in tokens.items()}
    rows = []
    for measure, by_split in measures.items():
        for split, found in by_split.items():
            numbers = [f"{found['mean']:.1f}", *(f"{found[key]:,.0f}" for key in ("median", "p95", "max"))]
            rows.append([measure, split, *numbers, found.get("too_long", "")])
    sizes = ", ".join(f"{split['rows']:,} {name}" for name, split in splits.items())
    columns = ["length in", "split", "mean", "median", "95%", "longest", "cut off"]
    show(f"{figures['task']}: {sizes} rows", columns, rows, right=2)
    if tokens:
        limits = ", ".join(f"{encoder['max_length']} tokens ({name})" for name, encoder in tokens.items())
        say(f"Cut off: texts longer than {limits}; --max-length sets it.", "dim")


def _show_duplicates(found: Mapping[str, Any]) -> None:
    counts = {f"again in {name}": n for name, n in found["within"].items()} | found["across"]
    counts["texts with different labels"] = found["conflicting_texts"]
    counts["rows of these texts"] = found["conflicting_rows"]
    rows = [[what, n["exact"], n["normalized"]] for what, n in counts.items()]
    show("Duplicates", ["rows with a duplicate text", "exact", "ignoring case and punctuation"], rows, right=1)


def _show_label_counts(figures: Mapping[str, Any]) -> None:
    labels, splits = figures["labels"], figures["splits"]
    order = sorted(labels["rows"].items(), key=lambda item: -sum(item[1].values()))
    rows = [[label, *(_share(n[name], split["rows"]) for name, split in splits.items())] for label, n in order]
    if len(rows) > MAX_ROWS:
        rows[5:-5] = [[f"… {len(rows) - 10} more"]]
    show(f"Labels: {len(order)}", ["label", *splits], rows, right=1)
    for split, missing in labels["missing"].items():
        if missing:
            say(f"No row in {split}: {_several(missing)}.")
    if labels["few"]:
        say(f"Fewer than {labels['few_rows']} training rows: {_several(labels['few'])}.")


def _show_label_words(figures: Mapping[str, Any]) -> None:
    found = figures["label_words"]
    if found["unnamed"]:
        say(f"Not searched for in the texts, because they are not words: {_several(found['unnamed'])}.")
    if not found["by_label"]:
        return
    rows = [
        [name, *(_share(found[whose][name], split["rows"]) for whose in ("own", "other"))]
        for name, split in figures["splits"].items()
    ]
    title = "Texts that contain the name of a label"
    show(title, ["split", "its own label's", "another label's"], rows, right=1)
    order = sorted((word for word in found["by_label"] if word["found"]), key=lambda word: -word["own"])
    rows = [
        [w["label"], _share(w["own"], w["rows"]), w["found"], f"{100 * w['own'] / w['found']:.0f}%"]
        for w in order[:MAX_ROWS]
    ]
    columns = ["label", "rows of the label with its name", "all texts with its name", "share with this label"]
    if rows:
        show(f"Label names in texts, most frequent first ({len(rows)} of {len(order)})", columns, rows, right=1)


def _show_label_errors(found: Mapping[str, Any]) -> None:
    rows = [[pair["given"], pair["suggested"], pair["rows"]] for pair in found["pairs"][:MAX_ROWS]]
    if rows:
        show("Doubtful labels, most frequent pair first", ["given", "suggested", "rows"], rows, right=2)
    say(
        f"The labels of {_share(found['issues'], found['rows'])} of {counted(found['rows'], 'row')} in "
        f"{' and '.join(found['splits'])} are doubtful: by confident learning on {' + '.join(found['encoders'])}, "
        f"each text predicted from the others, {percent(found['out_of_fold_accuracy'])}% as labelled. "
        "These rows are not necessarily errors: review them, worst first, in label_issues.csv."
    )


def print_optimized(done: "Optimized") -> None:
    """Measurements of each form of a model, the form chosen, and the files written."""
    rows = []
    for one in done.measured:
        chosen = one.precision == done.config.get("precision")
        rows.append(
            [
                f"{one.precision}{' (chosen)' * chosen}",
                "" if one.bytes is None else size(one.bytes),
                f"{one.ms:.1f}",
                f"{done.measured[0].ms / one.ms:.2f}",
                percent(one.accuracy),
                f"{one.loss:+.2f}",
                f"{one.max_probability_difference:.1e}",
                f"{percent(one.equal_labels)}%",
            ]
        )
    if rows:
        columns = ["form", "graphs", "ms per text", "times as fast", "accuracy", "loss in points"]
        show(None, [*columns, "largest difference of a probability", "equal answers"], rows, right=1)
    say(f"Written to {done.folder}: {', '.join(name for name in done.files if '/' not in name)}")
    if rows:
        say(f"Next: fec predict {done.folder} 'a text'")


def print_distilled(done: "Distilled") -> None:
    """Measurements of a student, and the next command."""
    one = done.figures
    rows = [
        ["correct answers", percent(one.accuracy)],
        ["correct answers of the teacher", percent(one.teacher_accuracy)],
        ["same answer as the teacher", percent(one.agreement)],
    ]
    show(None, [f"of {one.valid_texts:,} validation texts", "%"], rows, right=1)
    if one.teacher_knew:
        say("The teacher may have been trained, chosen or calibrated on them: it may be worse on new texts.")
    say(
        f"Trained on {one.labelled_texts:,} texts with labels and {one.further_texts:,} without, written to "
        f"{done.folder}"
    )
    say(f"Next: fec predict {done.folder} 'a text'")


def print_prediction(
    text: str, row: Sequence[tuple[str, float, bool]], top_k: int | None = None, *, unknown: bool = False
) -> None:
    """A text's labels as bars, those of the answer in bold.

    Args:
        text: The text.
        row: Label, probability and whether it is in the answer, in descending order of probability.
        top_k: Number of labels. Default: those of the answer, and other probable ones.
        unknown: Whether the text is rejected as unknown.
    """
    shown = [one for one in row if one[2] or one[1] >= SHOWN_FROM] if top_k is None else row[:top_k]
    say(Text(text, "italic"))
    bars = Table.grid(padding=(0, 1))
    for label, probability, given in shown:
        bar = Bar(1, 0, probability, width=BAR_WIDTH, color="cyan" if given else "bright_black")
        bars.add_row(Text(label, "bold" if given else ""), f"{100 * probability:5.1f}%", bar)
    rest = len(row) - len(shown)
    if rest and top_k is None:
        bars.add_row(Text(f"{counted(rest, 'other label')} below {100 * SHOWN_FROM:.0f}%", "dim"))
    if not any(given for *_, given in row):
        bars.add_row(
            Text("unknown: none of the labels" if unknown else "no label is given", "bold" if unknown else "dim")
        )
    console().print(bars, "")


def print_explanation(explained: "Explanation") -> None:
    """The text with its words shaded by weight, and the largest weights as bars."""
    largest = max((abs(word.weight) for word in explained.words), default=0.0) or 1.0
    shaded = Text(explained.text)
    for word in explained.words:
        share = abs(word.weight) / largest
        if share >= MIN_SHADE:
            full = FOR if word.weight > 0 else AGAINST
            colour = Color.from_rgb(*(b + share * (f - b) for f, b in zip(full, BLANK, strict=True)))
            shaded.stylize(Style(color="black", bgcolor=colour.name), word.start, word.end)
    say(shaded)
    say(Text.assemble("\n", (explained.label, "bold"), f"  {percent(explained.probability)}%"))
    bars = Table.grid(padding=(0, 1))
    order = sorted(explained.words, key=lambda word: -abs(word.weight))
    for word in order[:MAX_ROWS]:
        colour_name = "dark_orange" if word.weight > 0 else "blue"
        bar = Bar(1, 0, abs(word.weight) / largest, width=BAR_WIDTH, color=colour_name)
        name = word.text if len(word.text) <= 40 else f"{word.text[:39]}…"
        bars.add_row(Text(name), f"{word.weight:+.2f}", bar)
    console().print(bars)
    if len(order) > MAX_ROWS:
        say(f"and {len(order) - MAX_ROWS} more with smaller weights", "dim")
    say(
        f"Weights: decrease of the log-odds of {explained.label} without the word; e^weight is the odds ratio.",
        "dim",
    )


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _share(count: int, whole: int) -> str:
    return f"{count:,} ({percent(count / max(whole, 1))}%)"


def _several(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_ROWS]) + (f" and {len(names) - MAX_ROWS} more" if len(names) > MAX_ROWS else "")


def _difference(found: Mapping[str, Any]) -> tuple[str, str]:
    """A difference in percentage points with its interval, and its p; empty where there is none."""
    interval = ""
    if found["ci95"] is not None:
        low, high = found["ci95"]
        interval = f"  [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{100 * found['difference']:+.2f}{interval}", "" if found["p"] is None else _p(found["p"])


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
