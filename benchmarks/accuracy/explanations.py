"""Does the prediction depend on the words with the largest weights?

From each test text of the demo corpus, the k words with the largest weights for its label are removed together and,
for comparison, k random words. Weights are computed by removing one word at a time, so that removing k words together
is a test.

python benchmarks/accuracy/explanations.py [--model MODEL_OR_RUN_FOLDER]
"""

import argparse

import numpy as np

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.explanation import without, word_spans
from fusion_classifier.tasks.named.demo import Demo


def left_out(text: str, spans: list[tuple[int, int]]) -> str:
    """The text without these words, removed from the end so that offsets stay valid."""
    for span in sorted(spans, reverse=True):
        text = without(text, span)
    return text


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="model for the demo corpus. Default: trained here on minilm-l6")
    given = parser.parse_args().model
    task, random = Demo().load(), np.random.default_rng(0)
    if given:
        classifier = FusionClassifier.from_pretrained(given)
    else:
        labels = [task.labels[i] for i in task.targets("train")]
        classifier = FusionClassifier(["minilm-l6"]).fit(list(task.split("train").texts), labels)
    texts = list(task.split("test").texts)
    before = classifier.predict_proba(texts)
    answers = before.argmax(1)
    rows = np.arange(len(texts))
    explained = [classifier.explain(text) for text in texts]
    print(f"{len(texts)} texts, mean probability of the answer {before.max(1).mean():.3f}")
    print("words removed | same label, largest weights | random | its probability, largest weights | random")
    for k in (1, 2, 3):
        figures = []
        for largest in (True, False):
            parts = []
            for one in explained:
                words = sorted(one.words, key=lambda word: -word.weight)
                spans = [(word.start, word.end) for word in words[:k]]
                if not largest:
                    every = word_spans(one.text)
                    spans = [every[i] for i in random.choice(len(every), min(k, len(every)), replace=False)]
                parts.append(left_out(one.text, spans))
            after = classifier.predict_proba(parts)
            figures.append(((after.argmax(1) == answers).mean(), after[rows, answers].mean()))
        (same, p), (same_random, p_random) = figures
        print(f"{k} | {100 * same:.0f}% | {100 * same_random:.0f}% | {p:.3f} | {p_random:.3f}")


if __name__ == "__main__":
    main()
