"""Fixtures for all tests. Nothing heavy is imported before a fixture needs it: pure tests start at once."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fusion_classifier.classifier.estimator import FusionClassifier

os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the Hub, nor a process that it starts


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this system can't do."""
    if os.name != "posix" and item.get_closest_marker("posix"):
        pytest.skip("needs POSIX")
    if sys.platform != "linux" and item.get_closest_marker("linux"):
        pytest.skip("needs Linux")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache. Workers of pytest-xdist share one: unpacking GGUF takes long."""
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        yield


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama with random weights."""
    import small_models

    return small_models.llama(tmp_path_factory.mktemp("models") / "small-llama")


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights."""
    import small_models

    return small_models.bert(tmp_path_factory.mktemp("models") / "small-bert")


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small RoBERTa with random weights."""
    import small_models

    return small_models.roberta(tmp_path_factory.mktemp("models") / "small-roberta")


@pytest.fixture(scope="module")
def few_penalties() -> Iterator[None]:
    """Two values of C, where it does not matter which is chosen: nine take most of the time of a small training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fusion_classifier.fusion.linear.CS", (1.0, 10.0))
        yield


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of few steps, where it does not matter how well they learn."""
    from fusion_classifier.training.defaults import DEFAULTS

    monkeypatch.setattr("fusion_classifier.training.upper_layers.UpperTraining.steps", lambda *_: 2)
    for head in ("ensemble", "fusion"):
        monkeypatch.setitem(DEFAULTS, head, DEFAULTS[head].model_copy(update={"min_steps": 40}))


def _weights(preset: str) -> str:
    from fusion_classifier.encoders.presets import PRESETS
    from fusion_classifier.encoders.weights import locate
    from fusion_classifier.errors import WeightsError

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
def demo_classifier(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> "FusionClassifier":
    """A classifier with real weights, its head trained on the demo corpus."""
    from fusion_classifier import FusionClassifier
    from fusion_classifier.tasks.named.demo import Demo

    task = Demo().load()
    train, valid = task.split("train"), task.split("valid")
    return FusionClassifier([minilm], head="linear", store=tmp_path_factory.mktemp("store")).fit(
        train.texts,
        [task.labels[i] for i in task.targets("train")],
        X_valid=valid.texts,
        y_valid=[task.labels[i] for i in task.targets("valid")],
    )


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
