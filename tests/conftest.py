"""Small random models, real weights where they are at hand, object storage, and a cache of the tests' own."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from fusion_classifier import FusionClassifier
from fusion_classifier.cluster.pool import QUIET
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.encoders.weights import locate
from fusion_classifier.errors import WeightsError
from fusion_classifier.tasks.named.demo import Demo

if TYPE_CHECKING:
    from fusion_classifier.serving.model import ServedModel

    Served = Callable[..., AbstractContextManager[str]]

os.environ.update(QUIET)  # Ray reads it when the first test module imports it

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-_/:()"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache, nor asks the Hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")  # for processes that tests start
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it was read before
        yield


def _tokenizer(special: list[str], template: str, **names: str) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters that adds special tokens as the template says."""
    vocabulary = {token: i for i, token in enumerate([*special, " ", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=names["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    pairs = [(token, vocabulary[token]) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=pairs)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    generator = torch.Generator().manual_seed(len(folder.name))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name.lower():  # far apart, so that texts differ clearly
                parameter.normal_(0, 0.2, generator=generator)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama as Llama-2 is: a start token added, no token to pad with."""
    tokenizer = _tokenizer(["<unk>", "<s>", "</s>"], "<s> $A", unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=6,
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
    )
    return _save(LlamaModel(config), tokenizer, tmp_path_factory.mktemp("models") / "small-llama")


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT with [CLS] … [SEP]."""
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = _tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]", **names)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=512,
    )
    return _save(BertModel(config), tokenizer, tmp_path_factory.mktemp("models") / "small-bert")


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RoBERTa, which counts positions from its padding index on."""
    names = {
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
    }
    tokenizer = _tokenizer(["<s>", "<pad>", "</s>", "<unk>"], "<s> $A </s>", **names)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    return _save(RobertaModel(config), tokenizer, tmp_path_factory.mktemp("models") / "small-roberta")


def _weights(preset: str) -> str:
    try:
        found = locate(PRESETS[preset].config, download=False)
    except WeightsError:
        pytest.skip(f"the weights of {preset} are not here (make test installs those of the demo)")
    return f"{preset}={found.folder / found.gguf_file if found.gguf_file else found.folder}"


@pytest.fixture(scope="session")
def minilm() -> str:
    """Encoder `minilm-l6` with real weights, as written on the command line."""
    return _weights("minilm-l6")


@pytest.fixture(scope="session")
def smollm2() -> str:
    """Encoder `smollm2-135m` with real weights, as written on the command line."""
    return _weights("smollm2-135m")


@pytest.fixture(scope="session")
def demo_classifier(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> FusionClassifier:
    """A classifier with real weights, its head trained on the demo corpus."""
    task = Demo().load()
    train, valid = task.split("train"), task.split("valid")
    return FusionClassifier([minilm], head="linear", store=tmp_path_factory.mktemp("store")).fit(
        train.texts,
        [task.labels[i] for i in task.targets("train")],
        X_valid=valid.texts,
        y_valid=[task.labels[i] for i in task.targets("valid")],
    )


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket on a real server of this machine that speaks S3; where that is stands in the environment."""
    pytest.importorskip("moto")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="features")
    yield "s3://features"
    server.stop()


# --- a small classifier, and servers of it in threads (tests/serving) ---


@pytest.fixture(scope="session")
def saved_model(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; its encoder reads 500 tokens, one a character."""
    from fusion_classifier import FusionClassifier

    place = tmp_path_factory.mktemp("served")
    texts = [f"{word} {i}" for i in range(12) for word in ("we won", "he broke it", "it is dark")]
    classifier = FusionClassifier(
        [f"{bert_folder}?dtype=float32&max_length=500"],
        head="linear",
        store=place / "store",
        training={"max_epochs": 25},
    )
    classifier.fit(texts, ["joy", "anger", "fear"] * 12).save_pretrained(place / "moods")
    return place / "moods"


@pytest.fixture(scope="session")
def served() -> "Served":
    """Starts the server of a model on a free port; yields its address."""
    import uvicorn

    from fusion_classifier.config import ServerSettings
    from fusion_classifier.serving.app import create_app
    from fusion_classifier.serving.server import configuration

    @contextmanager
    def start(model: "ServedModel", **settings: object) -> Iterator[str]:
        app = create_app(model, ServerSettings.model_validate(settings))
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            server = uvicorn.Server(configuration(app))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join(timeout=60)
            assert not thread.is_alive()

    return start


@pytest.fixture(scope="session")
def server(saved_model: Path, served: "Served") -> Iterator[str]:
    """A server with the settings it has by itself."""
    from fusion_classifier import FusionClassifier
    from fusion_classifier.serving.model import ServedModel

    model = ServedModel(FusionClassifier.from_pretrained(saved_model), "moods")
    with served(model) as address:
        yield address
