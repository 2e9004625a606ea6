"""Reads the settings of sentence-transformers models.

Such a model is an ordinary one with a `modules.json`: a transformer, a pooling, and possibly dense layers. Its
pooling, maximum length, prompt and dense layers are the defaults for pooled features. Normalization is omitted: it
changes no direction, and heads scale their features. Models with other modules are rejected.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fusion_classifier.errors import FecError, UsageError, WeightsError, library_errors
from fusion_classifier.support.hub import hub_errors

# In the order in which sentence-transformers joins the vectors of several.
POOLINGS = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}
MODES = {
    "cls": "first",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
LENGTH_FILES = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
STATIC_TOKENS = 512  # that model2vec reads; sentence-transformers reads all
WITH_PADDED_POSITIONS = ("camembert", "mpnet", "roberta", "xlm-roberta")  # the first two are for padding
MAX_TOKENS = 8192  # of a tokenizer whose only limit is its model_max_length
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")  # of torch.nn
# Prompts of models that record none, by the end of their name; from their model cards.
PROMPTS = {
    r"(multilingual-)?e5-(small|base|large)(-v2|-unsupervised)?": "query: ",
    r"nomic-embed-text-v1(\.5)?": "classification: ",
}

Reader = Callable[[str], str | None]  # the text of a file of the model; None if it has no such file


def folder_reader(folder: Path) -> Reader:
    """Reads the files of a folder."""

    def read(name: str) -> str | None:
        path = folder / name
        return path.read_text("utf-8") if path.is_file() else None

    return read


def hub_reader(repo: str, revision: str | None) -> Reader:
    """Reads files of a model on the Hub: small ones, downloaded once."""
    return lambda name: _from_hub(repo, revision, name)


@lru_cache(maxsize=256)
def _from_hub(repo: str, revision: str | None, name: str) -> str | None:
    from huggingface_hub import errors, hf_hub_download  # noqa: PLC0415 - most encoders are on this machine

    # No network is a LocalEntryNotFoundError. Without a model or a connection, `locate` reports why.
    no_model = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError)
    try:
        with hub_errors(repo, revision, kind=WeightsError):
            path = hf_hub_download(repo, name, revision=revision)
    except FecError as error:
        if isinstance(error.__cause__, (errors.EntryNotFoundError, errors.OfflineModeIsEnabled, *no_model)):
            return None
        raise
    return Path(path).read_text("utf-8")


def sentence_settings(read: Reader, name: str) -> dict[str, Any]:
    """Fields of an `EncoderConfig` set by a model of sentence-transformers; for other models, at most a prompt.

    Args:
        read: Reads the model's files.
        name: Hub id or folder.
    """
    settings: dict[str, Any] = {}
    with library_errors(lambda why: WeightsError(f"{name}: the sentence-transformers files can't be read ({why})")):
        pooling: Mapping[str, Any] = {}
        if read("modules.json") is not None:
            modules = [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in _json(read, "modules.json")]
            if modules and modules[0][0] == "StaticEmbedding":
                return {"max_length": MAX_TOKENS if read("config.json") is None else STATIC_TOKENS}
            _check_modules(name, [kind for kind, _ in modules])
            for kind, place in modules:
                if kind == "Transformer":
                    settings |= _length(read, name, place)
                elif kind == "Pooling":
                    pooling = _json(read, f"{place}/config.json")
                    settings |= _pooling(read, name, pooling)
                elif kind == "Dense":
                    _check_dense(name, _json(read, f"{place}/config.json"))
                    settings["dense"] = True
        prompt = _prompt(read, name)
        if prompt and pooling.get("include_prompt") is False:
            raise _other(name, "its pooling leaves out the prompt, which")
        if prompt:
            settings["template"] = f"{prompt}{{text}}"
    return settings


def dense_places(folder: Path) -> list[Path]:
    """The folders of a model's dense layers, in their order."""
    modules = _json(folder_reader(folder), "modules.json")
    return [folder / str(m["path"]) for m in modules if str(m["type"]).endswith(".Dense")]


def transformer_folder(folder: Path) -> Path:
    """The folder with the weights of a model: in old versions a subfolder, such as 0_Transformer."""
    try:
        place = str(json.loads((folder / "modules.json").read_text("utf-8"))[0]["path"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return folder
    return folder / place if Path(place).name == place and (folder / place).is_dir() else folder


def _json(read: Reader, name: str) -> Any:
    text = read(name)
    return {} if text is None else json.loads(text)


def _check_modules(name: str, kinds: list[str]) -> None:
    usual = [kind for kind in kinds if kind != "Dropout"]  # which does nothing here
    tail = usual[2:]
    if usual[:2] != ["Transformer", "Pooling"] or not re.fullmatch(
        "(Dense )*(Normalize )?", "".join(f"{k} " for k in tail)
    ):
        known = ("Transformer", "Pooling", "Dense", "Normalize", "Dropout")
        strange = next((kind for kind in kinds if kind not in known), None)
        raise _other(name, f"its module {strange}" if strange else f"its order of modules ({', '.join(kinds)})")


def _length(read: Reader, name: str, place: str) -> dict[str, Any]:
    """The maximum length, which new versions store in the tokenizer's configuration."""
    at = f"{place}/" if place else ""
    there = [at + file for file in LENGTH_FILES if read(at + file) is not None]
    config = _json(read, there[0]) if there else {}
    if config.get("do_lower_case"):
        raise _other(name, "its lower-casing of texts")
    if config.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise _other(name, f"its task {config['transformer_task']}")
    limit = config.get("max_seq_length")
    if limit is None:
        limit = _json(read, f"{at}tokenizer_config.json").get("model_max_length", MAX_TOKENS + 1)
        model = _json(read, f"{at}config.json")
        positions = model.get("max_position_embeddings")
        if isinstance(positions, int) and positions > 0:
            limit = min(limit, positions - 2 * (model.get("model_type") in WITH_PADDED_POSITIONS))
        if limit > MAX_TOKENS:
            return {}
    return {"max_length": int(limit)}


def _pooling(read: Reader, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    modes = [mode for mode, on in config.items() if mode.startswith("pooling_mode_") and on is True]
    given = config.get("pooling_mode")
    named = [given] if isinstance(given, str) else list(given or [])
    if not set(modes) <= set(POOLINGS) or not set(named) <= set(MODES) or not modes + named:
        raise _other(name, f"its pooling ({', '.join(map(str, modes + named)) or 'none'})")
    # The new form has the order of the vectors, the old one a fixed order.
    ours = [MODES[mode] for mode in named] or [POOLINGS[mode] for mode in POOLINGS if mode in modes]
    settings: dict[str, Any] = {"pooling": "+".join(dict.fromkeys(ours))}
    tokens = _json(read, "tokenizer_config.json") | _json(read, "special_tokens_map.json")
    if (
        not {"first", "last"} >= set(ours)
        and not tokens.get("cls_token")
        and (tokens.get("bos_token") or tokens.get("eos_token"))
    ):
        settings["pool_special_tokens"] = True  # a decoder, whose special tokens it was trained with
    return settings


def _check_dense(name: str, config: Mapping[str, Any]) -> None:
    activation = str(config.get("activation_function", "torch.nn.Tanh"))
    if not activation.startswith("torch.nn.") or activation.rpartition(".")[2] not in ACTIVATIONS:
        raise _other(name, f"the activation {activation} of its dense layer")
    usual = "sentence_embedding"
    if config.get("use_residual") or config.get("module_input_name", usual) != usual:
        raise _other(name, "its dense layer with another input")


def _prompt(read: Reader, name: str) -> str:
    """The prompt for classification, otherwise the default one, otherwise that of the table."""
    config = _json(read, "config_sentence_transformers.json")
    prompts = config.get("prompts") or {}
    for prompt_name, prompt in prompts.items():
        if prompt_name.casefold() == "classification":
            return str(prompt)
    default = config.get("default_prompt_name")
    if default is not None:
        return str(prompts[default])
    if any(prompts.values()):  # it records its prompts; without a default none is used
        return ""
    short = Path(name).name
    return next((prompt for pattern, prompt in PROMPTS.items() if re.fullmatch(pattern, short)), "")


def _other(name: str, what: str) -> UsageError:
    return UsageError(
        f"{name}: {what} is not read from a folder or the Hub; pass the encoder as an object, "
        f"SentenceTransformer({name!r}), or choose a `pooling` of the transformer's states"
    )
