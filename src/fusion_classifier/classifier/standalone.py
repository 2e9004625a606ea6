"""Classifies texts with the ONNX graphs next to this file. Needs: pip install onnxruntime tokenizers numpy

    python predict.py "I can't believe she remembered my birthday" "leave me alone"

One line of JSON per text: {"label": …, "score": …}, or a list of these if a text may have several labels.
In Python:  from predict import Classifier;  Classifier(FOLDER).predict_proba(texts)
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

BATCH = 32  # texts per batch


class Classifier:
    """The classifier in a folder; `providers` are those of ONNX Runtime.

    It computes with all cores, or the number in the variable OMP_NUM_THREADS.
    """

    def __init__(self, folder: str | Path, providers: Sequence[str] = ("CPUExecutionProvider",)) -> None:
        folder = Path(folder)
        self.config = json.loads((folder / "config.json").read_text("utf-8"))
        self.labels: list[str] = [self.config["id2label"][str(i)] for i in range(len(self.config["id2label"]))]
        # In int8-dynamic the texts of a batch share a scale, so each text is a separate batch.
        self.batch = 1 if self.config.get("precision") == "int8-dynamic" else BATCH
        for encoder in self.config["encoders"]:
            if encoder["onnx"] is None:
                raise ValueError(f"encoder {encoder['name']} is not here ({encoder['reason']}): run it yourself")
        options = onnxruntime.SessionOptions()
        threads = os.environ.get("OMP_NUM_THREADS", "")
        options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
        # Threads that spin while they wait for work block cores for other programs and for the other graphs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")

        def session(name: str) -> Any:
            return onnxruntime.InferenceSession(str(folder / name), options, providers=list(providers))

        self.encoders = [
            (encoder, session(encoder["onnx"]), Tokenizer.from_file(str(folder / encoder["tokenizer"])))
            for encoder in self.config["encoders"]
        ]
        self.head = session(self.config["head"]["onnx"])

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Calibrated probabilities (N, C), columns as in `labels`."""
        return self.outputs(texts)["probabilities"]

    def predict(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The label of each text with its probability; if a text may have several, all of them, best first."""
        thresholds, offsets = (self.config["decision"].get(name) for name in ("thresholds", "offsets"))
        answers = []
        for row in self.predict_proba(texts):
            ranks_by = row if offsets is None else np.log(np.maximum(row, 1e-13), dtype=np.float64) + offsets
            order = np.argsort(-ranks_by, kind="stable")
            given = order[:1] if thresholds is None else [i for i in order if row[i] >= np.float32(thresholds[i])]
            answers.append([{"label": self.labels[i], "score": float(row[i])} for i in given])
        return answers

    def outputs(self, texts: Sequence[str], side: str = "right") -> dict[str, np.ndarray]:
        """All outputs of the head's graph, such as `logits` (N, C), by name.

        Args:
            texts: N texts.
            side: Side at which texts that are too long are cut, left or right.
        """
        return self.head_outputs(self.encoded(texts, side))

    def encoded(self, texts: Sequence[str], side: str = "right") -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
        """The inputs of the head's graph in batches, each with the indices of its texts."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
        for start in range(0, len(order), self.batch):
            block = order[start : start + self.batch]
            yield block, self.features([texts[i] for i in block], side)

    def head_outputs(self, batches: Iterable[tuple[list[int], dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
        """`outputs` of the result of `encoded`."""
        names, order, parts = self.config["head"]["outputs"], list[int](), []
        for block, inputs in batches:
            order += block
            parts.append(self.head.run(names, inputs))
        if not parts:
            return {name: np.empty((0, len(self.labels)), np.float32) for name in names}
        back = np.argsort(order)
        return {name: np.concatenate(part)[back] for name, part in zip(names, zip(*parts, strict=True), strict=True)}

    def features(self, texts: Sequence[str], side: str = "right") -> dict[str, np.ndarray]:
        """Inputs of the head's graph for one batch, by name."""
        inputs: dict[str, np.ndarray] = {}
        for number, (encoder, session, tokenizer) in enumerate(self.encoders):
            passes = []
            for template in encoder["templates"]:
                tokens = [encoded(tokenizer, template, text, encoder["max_length"], side) for text in texts]
                batch = padded(encoder, tokens)
                passes.append(session.run(["features"], {name: batch[name] for name in encoder["inputs"]})[0])
            inputs[f"features_{number}"] = np.mean(passes, axis=0) if len(passes) > 1 else passes[0]
            inputs[f"counted_mask_{number}"] = batch["counted_mask"]
        return {name: inputs[name] for name in self.config["head"]["inputs"]}


def encoded(
    tokenizer: Tokenizer, template: str, text: str, limit: int, side: str = "right"
) -> tuple[list[int], list[int]]:
    """Token ids of a text in a template, and which of them the tokenizer added; texts that are too long are cut."""
    if not text.strip():
        raise ValueError("a text is empty")

    def render(kept: int) -> tuple[list[int], list[int]]:
        part = text[:kept] if side == "right" else text[len(text) - kept :]
        encoding = tokenizer.encode(template.replace("{text}", part))
        return encoding.ids, encoding.special_tokens_mask

    tokenizer.no_padding()
    tokenizer.no_truncation()
    if template == "{text}":
        tokenizer.enable_truncation(limit, direction=side)
        return render(len(text))
    ids, special = render(len(text))
    low, high = 1, len(text)
    while len(ids) > limit and low < high:  # the longest part that fits: the template stays whole
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(render(middle)[0]) <= limit else (low, middle - 1)
    return (ids, special) if len(ids) <= limit else render(low)


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
    try:
        classifier = Classifier(Path(__file__).parent)
        answers = classifier.predict(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
    for answer in answers:
        print(json.dumps(answer if classifier.config["decision"]["thresholds"] else answer[0], ensure_ascii=False))
