"""HTML of trained classifiers and explanations for notebooks."""

from html import escape
from typing import TYPE_CHECKING, Any

from fusion_classifier.support.html import html_facts, html_table
from fusion_classifier.support.text import first_few

if TYPE_CHECKING:
    from fusion_classifier.classifier.explanation import Explanation

MAX_LABELS = 12  # named
MAX_WORDS = 10  # weights in a table
FOR, AGAINST = "255, 140, 0", "60, 120, 255"  # red, green, blue; half transparent, so that dark themes work, too


def classifier_html(classifier: Any) -> str:
    """Summary of a fitted classifier, with the scores in its card or of its ensemble."""
    config = classifier.config_
    labels = first_few(config.labels, MAX_LABELS)
    facts = [
        ("Trained on", config.task),
        ("Labels", f"{len(config.labels)}{', any number per text' if config.decision.multilabel else ''}: {labels}"),
        ("Head", config.head.name),
    ]
    if names := [encoder_name(one) for one in getattr(config, "encoders", ())]:
        facts.append(("Encoders, frozen", " + ".join(names)))
    if blocks := getattr(config, "blocks", {}):
        facts.append(("Blocks of columns", ", ".join(blocks)))
    return f"<b>{escape(type(classifier).__name__)}</b>{html_facts(facts)}{_scores(classifier)}"


def encoder_name(encoder: Any) -> str:
    """Name of an encoder in a configuration."""
    return str(getattr(encoder, "config", encoder).name)


def _scores(classifier: Any) -> str:
    from huggingface_hub import ModelCard  # noqa: PLC0415 - slow to import

    card = getattr(classifier, "card_", "")
    results = getattr(ModelCard(card).data, "eval_results", None) if card.startswith("---\n") else None
    if results:
        scores = [(one.metric_name, f"{100 * one.metric_value:.1f}") for one in results]
        return html_table(["", f"{results[0].dataset_split}, %"], scores)
    if members := getattr(classifier.config_, "members", ()):
        rows = [
            (one.name, f"{one.weight:.2f}", f"{100 * one.accuracy:.1f}", f"{100 * one.weighted_f1:.1f}")
            for one in members
        ]
        header = ["member", "weight", "accuracy, %", "weighted F1, %"]
        return html_table(header, rows) + "<small>On texts that the member was not trained on.</small>"
    return "<small>No scores are recorded; <code>score</code> measures it on your texts.</small>"


def explanation_html(explained: "Explanation") -> str:
    """The text with its words shaded by weight, and the largest weights."""
    largest = max((abs(word.weight) for word in explained.words), default=0.0) or 1.0
    parts, position = [], 0
    for word in explained.words:
        parts.append(escape(explained.text[position : word.start]))
        colour = FOR if word.weight > 0 else AGAINST
        style = f"background:rgba({colour}, {0.6 * abs(word.weight) / largest:.2f})"
        parts.append(f'<span style="{style}" title="{word.weight:+.2f}">{escape(word.text)}</span>')
        position = word.end
    parts.append(escape(explained.text[position:]))
    order = sorted(explained.words, key=lambda word: -abs(word.weight))[:MAX_WORDS]
    table = html_table(["word", "weight"], [(word.text, f"{word.weight:+.2f}") for word in order])
    title = f"<b>{escape(explained.label)}</b> {100 * explained.probability:.1f}%"
    return f'{title}<p style="white-space:pre-wrap">{"".join(parts)}</p>{table}'
