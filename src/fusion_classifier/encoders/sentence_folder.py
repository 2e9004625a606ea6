"""Folders of sentence-transformers: what their configuration says of pooling and length.

Such a folder is an ordinary model folder with `modules.json` beside it. Its pooling and its maximum length are the
defaults of pooled features. A model with further modules, such as a dense layer, is another function of the states.
"""

import json
from pathlib import Path
from typing import Any

from fusion_classifier.errors import UsageError, WeightsError, library_errors

MODULES = ("Transformer", "Pooling", "Normalize")  # heads standardize features, so normalization is not needed
POOLINGS = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
MODES = {"cls": "first", "mean": "mean", "max": "max", "lasttoken": "last"}


def sentence_settings(folder: Path) -> dict[str, Any]:
    """Fields of an `EncoderConfig` that a SentenceTransformer's folder sets; none of another folder.

    Raises:
        UsageError: A model that is more than a transformer and a pooling.
        WeightsError: Its configuration can't be read.
    """
    if not (folder / "modules.json").is_file():
        return {}
    settings: dict[str, Any] = {}
    with library_errors(lambda why: WeightsError(f"{folder}: its sentence-transformers files can't be read ({why})")):
        for module in _read(folder / "modules.json"):
            kind, place = str(module["type"]).rpartition(".")[2], folder / str(module["path"])
            if kind not in MODULES or (kind == "Transformer" and place.resolve() != folder.resolve()):
                raise _other(folder, f"its module {kind} is not read from a folder")
            if kind == "Transformer":
                limit = _read(place / "sentence_bert_config.json").get("max_seq_length")
                settings |= {} if limit is None else {"max_length": int(limit)}
            elif kind == "Pooling":
                settings |= {"pooling": _pooling(folder, _read(place / "config.json"))}
        if _read(folder / "config_sentence_transformers.json").get("default_prompt_name") is not None:
            raise _other(folder, "its default prompt is not read from a folder")
    return settings


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _pooling(folder: Path, config: dict[str, Any]) -> str:
    modes = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    given = config.get("pooling_mode")
    named = [given] if isinstance(given, str) else list(given or [])
    if not set(modes) <= set(POOLINGS) or not set(named) <= set(MODES) or not modes + named:
        raise _other(
            folder, f"its pooling ({', '.join(map(str, modes + named)) or 'none'}) is not read from a folder"
        )
    return "+".join(dict.fromkeys([POOLINGS[mode] for mode in modes] + [MODES[mode] for mode in named]))


def _other(folder: Path, why: str) -> UsageError:
    return UsageError(
        f"{folder}: {why}; pass the encoder as an object, SentenceTransformer({str(folder)!r}), "
        "or choose a `pooling` of the transformer's states"
    )
