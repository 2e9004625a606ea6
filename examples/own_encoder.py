"""Encoders of your own: a function, and features computed elsewhere.

    python examples/own_encoder.py

Needs no download. A SentenceTransformer is given the same way: `encoders=[SentenceTransformer("..."), "minilm-l6"]`.
"""

import tempfile

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from fusion_classifier import FunctionEncoder, FusionClassifier, PrecomputedEncoder

FORECASTS = {
    "no": ("Sun all day", "Dry and warm", "Clear skies"),
    "yes": ("Heavy rain", "Showers", "A thunderstorm"),
}
PLACES = ("in the north", "by the sea", "in the hills", "over the town", "in the valley")

words = HashingVectorizer(n_features=256)


def count_words(texts: list[str]) -> np.ndarray:
    """Hashed bags of words: (N, 256). An embedding API could be called instead."""
    features: np.ndarray = words.transform(texts).toarray()
    return features


def main() -> None:
    """Train on two encoders, save the classifier, load it and predict."""
    rows = [(f"{weather} {place}.", label) for label in FORECASTS for weather in FORECASTS[label] for place in PLACES]
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    asked = ["Heavy rain in the morning", "Dry and sunny in the morning"]

    # Features are stored by name and version: change the version when the function changes.
    by_function = FunctionEncoder(count_words, name="words", version="256")
    # An array computed anywhere, one row per text: texts to train on and texts to predict.
    known = [*texts, *asked]
    computed = PrecomputedEncoder(known, np.array([[len(text), text.count(" ")] for text in known]), name="lengths")

    classifier = FusionClassifier([by_function, computed], head="linear").fit(texts, labels)
    print(classifier.predict(asked))

    with tempfile.TemporaryDirectory() as folder:
        classifier.save_pretrained(folder)  # the objects are not saved
        again = FusionClassifier.from_pretrained(folder, encoders={"words": by_function, "lengths": computed})
        print(again.predict(asked))


if __name__ == "__main__":
    main()
