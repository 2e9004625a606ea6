"""The sides of `latency.py`, each run in a separate process, which imports only the libraries that it measures."""

# ruff: noqa: PLC0415 - each process imports what it measures

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

OPENVINO = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # name of a form, and OpenVINO's precision
Answer = Callable[[str], object]


def answer_lines(side: str, folder: Path, paths: Mapping[str, str], busy: bool) -> None:
    """Answer each line of standard input with the milliseconds that it took; if busy, with those of processor
    time.
    """
    clock = time.process_time if busy else time.perf_counter
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints
    name, _, form = side.partition("-")
    answer = openvino(form, folder) if name == "openvino" else SIDES[name](folder, paths)
    for line in sys.stdin:
        started = clock()
        answer(line.rstrip("\n"))
        out.write(f"{1000 * (clock() - started)}\n")
        out.flush()


def ours(folder: Path, paths: Mapping[str, str]) -> Answer:
    """This package; an optimized model without torch."""
    from fusion_classifier.classifier.text_classifier import load_classifier

    classifier = load_classifier(folder, "cpu", paths)
    return lambda text: classifier.predict([text])


def floor(folder: Path, paths: Mapping[str, str]) -> Answer:
    """Tokenizer, model and head, called one after the other."""
    import torch

    from fusion_classifier.classifier.prediction import TextPredictor
    from fusion_classifier.encoders.loading import load_encoder
    from fusion_classifier.features.arrays import TokenStates

    classifier = TextPredictor.from_pretrained(folder, device="cpu", encoder_paths=paths)
    configs = [saved.config for saved in classifier.config_.encoders]
    encoders = [load_encoder(config, torch.device("cpu"), plain=True) for config in configs]
    head, decision, labels = classifier.head_.eval(), classifier.config_.decision, classifier.classes_

    @torch.inference_mode()
    def answer(text: str) -> Any:
        batch: dict[str, Any] = {}
        for encoder in encoders:
            given = encoder.tokenizer(
                text, return_tensors="pt", truncation=True, max_length=encoder.config.max_length
            )
            found = encoder.model(**given, output_hidden_states=True).hidden_states
            states = torch.stack([found[layer][0] for layer in encoder.layers], dim=1).float()  # (L, layers, H)
            tokens = encoder.config.pooling == "tokens"
            batch[encoder.config.name] = (
                TokenStates(states, torch.tensor([len(states)])) if tokens else states.mean(0).flatten()[None]
            )
        return labels[decision.labels(decision.probabilities(head(batch)))]

    return answer


def plain(paths: Mapping[str, str]) -> tuple[str, Any]:
    """MiniLM's folder and the precision in which this package computes it."""
    import torch

    from fusion_classifier.encoders.identity import identify
    from fusion_classifier.encoders.spec import parse_encoder

    place = paths.get("minilm-l6")
    identity = identify(parse_encoder(f"minilm-l6={place}" if place else "minilm-l6"), torch.device("cpu"))
    return str(identity.weights.folder), getattr(torch, identity.dtype)


def pipeline(_folder: Path, paths: Mapping[str, str]) -> Answer:
    """transformers' pipeline, in the same precision."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers import pipeline as of_transformers

    place, dtype = plain(paths)
    model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=27, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(place)
    answer: Answer = of_transformers("text-classification", model, tokenizer=tokenizer, top_k=None)
    return answer


def sentence(_folder: Path, paths: Mapping[str, str]) -> Answer:
    """sentence-transformers and scikit-learn, in the same precision."""
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    place, dtype = plain(paths)
    model = SentenceTransformer(place, device="cpu", model_kwargs={"dtype": dtype})
    head = LogisticRegression().fit(np.random.default_rng(0).normal(size=(270, 384)), np.arange(270) % 27)
    return lambda text: head.predict_proba(model.encode([text], show_progress_bar=False))


def bare(folder: Path, _paths: Mapping[str, str]) -> Answer:
    """Tokenizers, encoders and head by ONNX Runtime, called one after the other."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    config, options = json.loads((folder / "config.json").read_text("utf-8")), onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def session(name: str) -> Any:
        return onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])

    def tokenizer_of(encoder: Mapping[str, Any]) -> Any:
        tokenizer = Tokenizer.from_file(str(folder / encoder["tokenizer"]))
        tokenizer.no_padding()  # the file may pad every text to a fixed length
        tokenizer.no_truncation()
        return tokenizer

    encoders = [(one, session(one["onnx"]), tokenizer_of(one)) for one in config["encoders"]]
    head = session(config["head"]["onnx"])

    def answer(text: str) -> Any:
        given: dict[str, Any] = {}
        for number, (encoder, model, tokenizer) in enumerate(encoders):
            found = tokenizer.encode(text)
            ids, ones = np.array([found.ids]), np.ones((1, len(found.ids)), np.int64)
            counted = ones if encoder["pool_special_tokens"] else 1 - np.array([found.special_tokens_mask])
            batch = {"input_ids": ids, "attention_mask": ones, "counted_mask": counted}
            inputs = {name: batch[name] for name in encoder["inputs"]}
            given |= {f"features_{number}": model.run(["features"], inputs)[0], f"counted_mask_{number}": counted}
        inputs = {name: given[name] for name in config["head"]["inputs"]}
        return config["id2label"][str(head.run(["probabilities"], inputs)[0][0].argmax())]

    return answer


def openvino(form: str, folder: Path) -> Answer:
    """The float32 graphs by OpenVINO."""
    import openvino as runtime

    from fusion_classifier.classifier.standalone import Classifier, encoded, padded

    core, graphs = runtime.Core(), Classifier(folder)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"]),
        "INFERENCE_PRECISION_HINT": OPENVINO[form],
    }

    class Session:
        """As one of ONNX Runtime."""

        def __init__(self, model: Any) -> None:
            self.request = core.compile_model(model, "CPU", settings).create_infer_request()

        def run(self, names: Sequence[str], inputs: Mapping[str, Any]) -> list[Any]:
            """Outputs by name."""
            found = self.request.infer(inputs, share_inputs=True)
            return [found[name] for name in names]

    def loaded(encoder: Mapping[str, Any], tokenizer: Any) -> Any:
        model = core.read_model(folder / encoder["onnx"])
        if form != "int8":
            return model
        import nncf

        texts = json.loads((folder / "calibration.json").read_text("utf-8"))
        batches = [
            padded(dict(encoder), [encoded(tokenizer, "{text}", text, encoder["max_length"])]) for text in texts
        ]
        given = [{name: batch[name] for name in encoder["inputs"]} for batch in batches]
        kind = nncf.ModelType.TRANSFORMER
        return nncf.quantize(model, nncf.Dataset(given), model_type=kind, subset_size=len(given))

    graphs.encoders = [
        (encoder, Session(loaded(encoder, tokenizer)), tokenizer) for encoder, _, tokenizer in graphs.encoders
    ]
    graphs.head = Session(core.read_model(folder / graphs.config["head"]["onnx"]))
    return lambda text: graphs.predict([text])


def llama(file: Path, _paths: Mapping[str, str]) -> Answer:
    """llama.cpp's embedding of a text; no head."""
    import xllamacpp

    settings, threads = xllamacpp.CommonParams(), int(os.environ["OMP_NUM_THREADS"])
    settings.model.path, settings.embedding = str(file), True
    settings.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 512
    settings.n_parallel = 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(settings)
    return lambda text: server.handle_embeddings({"input": text})


SIDES: dict[str, Callable[[Path, Mapping[str, str]], Answer]] = {
    "floor": floor,
    "ours": ours,
    "onnx": ours,
    "bare": bare,
    "pipeline": pipeline,
    "sentence": sentence,
    "llama.cpp": llama,
}
