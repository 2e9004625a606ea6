"""Classifies texts with the ONNX graphs beside this file. Needs: pip install onnxruntime tokenizers numpy

    python predict.py "I can't believe she remembered my birthday" "leave me alone"

One line of JSON per text: {"label": …, "score": …}, or a list of these where a text may have several labels.
In Python:  from predict import Classifier;  Classifier(FOLDER).predict_proba(texts)
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BATCH = 32  # texts per batch


class Classifier:
    """The classifier in a folder; `providers` are those of ONNX Runtime."""

    def __init__(self, folder: str | Path, providers: Sequence[str] = ("CPUExecutionProvider",)) -> None:
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text("utf-8"))
        self.labels: list[str] = [self.config["id2label"][str(i)] for i in range(len(self.config["id2label"]))]
        for encoder in self.config["encoders"]:
            if encoder["onnx"] is None:
                raise SystemExit(f"encoder {encoder['name']} is not here ({encoder['reason']}): run it yourself")

        def session(name: str) -> Any:
            return onnxruntime.InferenceSession(str(folder / name), providers=list(providers))

        self.encoders = [
            (encoder, session(encoder["onnx"]), Tokenizer.from_file(str(folder / encoder["tokenizer"])))
            for encoder in self.config["encoders"]
        ]
        self.head = session(self.config["head"]["onnx"])

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Calibrated probabilities (N, C), columns as in `labels`."""
        parts = [self.run(texts[i : i + BATCH])[1] for i in range(0, len(texts), BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.labels)), np.float32)

    def predict(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The label of each text with its probability; where a text may have several, all of them, best first."""
        thresholds, offsets = (self.config["decision"].get(name) for name in ("thresholds", "offsets"))
        answers = []
        for row in self.predict_proba(texts):
            ranks_by = row if offsets is None else np.log(np.maximum(row, 1e-13), dtype=np.float64) + offsets
            order = np.argsort(-ranks_by, kind="stable")
            given = order[:1] if thresholds is None else [i for i in order if row[i] >= np.float32(thresholds[i])]
            answers.append([{"label": self.labels[i], "score": float(row[i])} for i in given])
        return answers

    def run(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Logits and probabilities, (B, C) each, of one batch."""
        inputs: dict[str, np.ndarray] = {}
        for number, (encoder, session, tokenizer) in enumerate(self.encoders):
            passes = []
            for template in encoder["templates"]:
                batch = padded(encoder, [encoded(tokenizer, template, text, encoder["max_length"]) for text in texts])
                passes.append(
                    session.run(["features"], {one.name: batch[one.name] for one in session.get_inputs()})[0]
                )
            inputs[f"features_{number}"] = np.mean(passes, axis=0) if len(passes) > 1 else passes[0]
            inputs[f"counted_mask_{number}"] = batch["counted_mask"]
        known = {one.name for one in self.head.get_inputs()}
        logits, probabilities = self.head.run(
            ["logits", "probabilities"], {name: value for name, value in inputs.items() if name in known}
        )
        return logits, probabilities


def encoded(tokenizer: Tokenizer, template: str, text: str, limit: int) -> tuple[list[int], list[int]]:
    """Token ids of a text in a template, and which of them the tokenizer added; texts that are too long are cut."""
    if not text.strip():
        raise SystemExit("a text is empty")

    def render(part: str) -> tuple[list[int], list[int]]:
        encoding = tokenizer.encode(template.replace("{text}", part))
        return encoding.ids, encoding.special_tokens_mask

    tokenizer.no_padding()
    tokenizer.no_truncation()
    if template == "{text}":
        tokenizer.enable_truncation(limit)
        return render(text)
    ids, special = render(text)
    low, high = 1, len(text)
    while len(ids) > limit and low < high:  # the longest beginning that fits: the template stays whole
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(render(text[:middle])[0]) <= limit else (low, middle - 1)
    return (ids, special) if len(ids) <= limit else render(text[:low])


def padded(encoder: dict[str, Any], tokens: Sequence[tuple[list[int], list[int]]]) -> dict[str, np.ndarray]:
    """The inputs of an encoder's graph, (B, L), int64, padded on the right."""
    shape = len(tokens), max(len(ids) for ids, _ in tokens)
    input_ids = np.full(shape, encoder["pad_token_id"], np.int64)
    attention_mask, counted_mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, (ids, special) in enumerate(tokens):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
        counted_mask[row, : len(ids)] = 1 if encoder["pool_special_tokens"] or all(special) else 1 - np.array(special)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "counted_mask": counted_mask}


if __name__ == "__main__":
    classifier = Classifier(Path(__file__).parent)
    for answer in classifier.predict(sys.argv[1:]):
        print(json.dumps(answer if classifier.config["decision"]["thresholds"] else answer[0], ensure_ascii=False))
