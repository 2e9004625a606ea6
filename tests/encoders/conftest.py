"""Small models of three architectures, and encoders of them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fusion_classifier.encoders.loading import TransformerEncoder, load_encoder
from fusion_classifier.encoders.spec import parse_encoder

CPU = torch.device("cpu")
KINDS = ("llama", "bert", "roberta")


def load(folder: Path | str, settings: str = "") -> TransformerEncoder:
    return load_encoder(parse_encoder(f"{folder}?dtype=float32{settings}"), CPU)


@pytest.fixture(scope="session")
def folders(llama_folder: Path, bert_folder: Path, roberta_folder: Path) -> dict[str, Path]:
    return {"llama": llama_folder, "bert": bert_folder, "roberta": roberta_folder}


@pytest.fixture(scope="session")
def encoder_of(folders: dict[str, Path]) -> Callable[[str], TransformerEncoder]:
    loaded = {kind: load(folders[kind], "&layers=-2,-1") for kind in KINDS}
    return loaded.__getitem__


@pytest.fixture(scope="session")
def encoder_in(folders: dict[str, Path]) -> Callable[[str, str, int], TransformerEncoder]:
    """Encoders in any template, of models loaded once."""
    loaded = {kind: load(folders[kind]) for kind in KINDS}

    def change(kind: str, template: str, limit: int) -> TransformerEncoder:
        encoder = loaded[kind]
        config = encoder.config.model_copy(update={"template": template, "max_length": limit})
        return dataclasses.replace(encoder, identity=dataclasses.replace(encoder.identity, config=config))

    return change
