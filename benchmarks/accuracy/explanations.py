"""Are the words with the greatest weights those that the answer rests on?

Of each test text of the demo corpus the k words with the greatest weights for its answer are left out together, and
as many words at random. Weights come from leaving out one word at a time, so that k words together is a test.

python benchmarks/accuracy/explanations.py [--model MODEL_OR_RUN_FOLDER]
"""

import argparse

import numpy as np

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.explanation import without, word_spans
from fusion_classifier.tasks.named.demo import Demo


def left_out(text: str, spans: list[tuple[int, int]]) -> str:
    """The text without these words; from behind, so that places stay right."""
    for span in sorted(spans, reverse=True):
        text = without(text, span)
    return text


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a model of the demo corpus; trained here on minilm-l6 unless given")
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
    print("words left out | same answer, greatest weights | at random | its probability, greatest | at random")
    for k in (1, 2, 3):
        figures = []
        for greatest in (True, False):
            parts = []
            for one in explained:
                words = sorted(one.words, key=lambda word: -word.weight)
                spans = [(word.start, word.end) for word in words[:k]]
                if not greatest:
                    every = word_spans(one.text)
                    spans = [every[i] for i in random.choice(len(every), min(k, len(every)), replace=False)]
                parts.append(left_out(one.text, spans))
            after = classifier.predict_proba(parts)
            figures.append(((after.argmax(1) == answers).mean(), after[rows, answers].mean()))
        (same, p), (same_random, p_random) = figures
        print(f"{k} | {100 * same:.0f} % | {100 * same_random:.0f} % | {p:.3f} | {p_random:.3f}")


if __name__ == "__main__":
    main()
