"""Where a model's files are looked for, and what is said when they are nowhere."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command import fec

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.encoders.weights import Weights, describe_presets, hub_files, locate
from fusion_classifier.errors import UsageError, WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_path_for_the_encoder_comes_first(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bert_folder, tmp_path / "bert-large")
    monkeypatch.setenv("FEC_MODELS", str(tmp_path))
    assert locate(parse_encoder(f"bert-large={bert_folder}").model_copy()).folder == bert_folder
    assert locate(parse_encoder("bert-large")).folder == tmp_path / "bert-large"


def test_a_package_comes_before_the_models_folder(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PRESETS["minilm-l6"].package
    assert package is not None
    ((name, path),) = package.places
    module = tmp_path / "site" / name
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("raise RuntimeError('a package of weights is found, not run')")
    shutil.copytree(bert_folder, module / path)
    shutil.copytree(bert_folder, tmp_path / "models" / "minilm-l6")
    monkeypatch.setenv("FEC_MODELS", str(tmp_path / "models"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = locate(parse_encoder("minilm-l6"))
    assert (found.source, found.folder) == ("package", module / path)


def test_a_model_in_several_packages_is_unpacked_once(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PRESETS["mpnet-base"].package
    assert package is not None
    zipped = Path(
        shutil.make_archive(str(tmp_path / "all"), "zip", bert_folder.parent, bert_folder.name)
    ).read_bytes()
    size = len(zipped) // (len(package.places) - 1)
    for number, (name, path) in enumerate(package.places):
        file = tmp_path / "site" / name / path
        file.parent.mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").touch()
        file.write_bytes(zipped[number * size : (number + 1) * size])
    monkeypatch.setenv("FEC_MODELS", str(tmp_path / "models"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (described,) = (one for one in describe_presets() if one["name"] == "mpnet-base")
    assert described["weights"] == "packages, unpacked when first used"
    found = locate(parse_encoder("mpnet-base"))
    assert (found.source, found.folder) == ("FEC_MODELS", tmp_path / "models" / "mpnet-base")
    assert {file.name: file.read_bytes() for file in found.folder.iterdir()} == {
        file.name: file.read_bytes() for file in bert_folder.iterdir()
    }
    before = found.folder.stat().st_mtime_ns
    assert locate(parse_encoder("mpnet-base")) == found
    assert found.folder.stat().st_mtime_ns == before
    shutil.rmtree(found.folder)
    (tmp_path / "site" / package.places[0][0] / package.places[0][1]).write_bytes(b"")
    with pytest.raises(WeightsError, match="install its package again"):
        locate(parse_encoder("mpnet-base"))
    assert not found.folder.exists()
    (tmp_path / "site" / package.places[4][0] / package.places[4][1]).unlink()
    with pytest.raises(WeightsError, match="not on this machine"):
        locate(parse_encoder("mpnet-base"), download=False)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="can run code"):
        locate(parse_encoder(str(tmp_path)))


def test_a_folder_without_config_or_with_two_ggufs_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    assert locate(parse_encoder(str(tmp_path))).gguf_file == "a.gguf"
    assert locate(parse_encoder(str(tmp_path / "a.gguf"))).gguf_file == "a.gguf"
    (tmp_path / "b.gguf").touch()
    with pytest.raises(WeightsError, match="2 GGUF files"):
        locate(parse_encoder(str(tmp_path)))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(WeightsError, match=r"config\.json"):
        locate(parse_encoder(str(tmp_path)))


@pytest.mark.parametrize("spec", ["./nowhere", "/no/such/model", "minilm-l6=/no/such/model"])
def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(spec: str) -> None:
    with pytest.raises(WeightsError, match="no such"):
        locate(parse_encoder(spec))


def test_a_name_that_is_nothing_at_all_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no folder here, and not a Hub id"):
        locate(parse_encoder("what is this"))


def test_every_preset_is_described_without_the_hub() -> None:
    described = {one["name"]: one for one in describe_presets()}
    assert set(described) == set(PRESETS)
    assert described["llama2-7b-chat"]["feature"] == "(5, 4096)"
    assert described["bert-large"]["feature"] == "(1024,)"


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as huggingface-hub asks: a model, a gated one, and none."""

    folder: Path

    def _answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if "/gone" in path:
            self._answer(404, b"{}", X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id: gone")
        elif path.startswith("/api/models/some/pickled"):
            info: dict[str, object] = {
                "id": "some/pickled",
                "sha": COMMIT,
                "siblings": [{"rfilename": "pytorch_model.bin"}],
                "tags": [],
            }
            self._answer(200, json.dumps(info).encode(), Content_Type="application/json")
        elif "some/gated" in path:
            self._answer(403, b"{}", X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        elif "some/model" not in path:
            self._answer(404, b"{}", X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif path.startswith("/api/models/some/model/tree"):
            files = [
                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40}
                for f in sorted(self.folder.iterdir())
            ]
            self._answer(200, json.dumps(files).encode(), Content_Type="application/json")
        elif path.startswith("/api/models/some/model"):
            names = [{"rfilename": file.name} for file in sorted(self.folder.iterdir())]
            info = {
                "id": "some/model",
                "sha": COMMIT,
                "siblings": names,
                "private": False,
                "tags": [],
                "downloads": 0,
            }
            self._answer(200, json.dumps(info).encode(), Content_Type="application/json")
        elif "/resolve/" in path:
            file = self.folder / path.rpartition("/")[2]
            if not file.is_file():
                self._answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
            else:
                etag = f'"{hash(file.name) & 0xFFFFFFFF:040x}"'
                self._answer(200, file.read_bytes(), ETag=etag, X_Repo_Commit=COMMIT)
        else:
            self._answer(404)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def hub(bert_folder: Path) -> Iterator[str]:
    handler = type("Hub", (_Hub,), {"folder": bert_folder})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(endpoint: str, spec: str, home: Path) -> subprocess.CompletedProcess[str]:
    """`fec extract` in a process of its own: huggingface-hub reads its environment when imported."""
    (home / "texts.csv").write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(12)))
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "FEC_MODELS": str(home / "models"),
    }
    command = ["extract", str(home / "texts.csv"), "--encoder", spec, "--store", str(home / "store"), "--json"]
    return subprocess.run(
        [sys.executable, "-m", "fusion_classifier", *command],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=200,
    )


@pytest.mark.slow
def test_a_hub_model_is_the_same_encoder_as_its_folder(hub: str, bert_folder: Path, tmp_path: Path) -> None:
    done = ask(hub, "some/model", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["encoded"] == 12
    place = ("--store", tmp_path / "store", "--json")
    done = fec("extract", tmp_path / "texts.csv", "--encoder", bert_folder, *place)
    assert json.loads(done.stdout)[0]["encoded"] == 0
    done = ask("http://127.0.0.1:9", "some/model", tmp_path)  # no Hub: what was downloaded serves
    assert json.loads(done.stdout)[0]["encoded"] == 0, done.stderr


@pytest.mark.slow
def test_no_hub_says_how_to_go_without(tmp_path: Path) -> None:
    done = ask("http://127.0.0.1:9", "bert-large", tmp_path)
    assert done.returncode == 1
    assert "the Hub can't be reached" in done.stderr
    assert "bert-large=PATH" in done.stderr


ENCODE = """
import json, sys, torch
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import FecError
answers = {}
for spec in sys.argv[1:]:
    try:
        features = encode(load_encoder(parse_encoder(spec), torch.device("cpu")), ["one text", "and another"])
        answers[spec] = [feature.tolist() for feature in features]
    except FecError as error:
        answers[spec] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
"""


@pytest.mark.slow
def test_what_the_hub_has_and_what_it_lacks(hub: str, bert_folder: Path, tmp_path: Path) -> None:
    asked = {
        "some/model?dtype=float32": "",
        "some/model?revision=gone": "WeightsError: some/model: no revision 'gone' on the Hub",
        "some/pickled": "WeightsError: some/pickled has no .safetensors weights",
        "some/model/absent.gguf": "WeightsError: some/model has no file absent.gguf",
        "some/gated": "WeightsError: some/gated: access is gated; accept the licence",
        "some/nothing": "WeightsError: some/nothing: no folder here, and no model on the Hub, or a private one",
        "llama2-7b-chat": "llama2-7b-chat=PATH",
    }
    environment = os.environ | {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-c", ENCODE, *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    found = answers.pop("some/model?dtype=float32")
    local = load_encoder(parse_encoder(f"{bert_folder}?dtype=float32"), torch.device("cpu"))
    np.testing.assert_allclose(found, encode(local, ["one text", "and another"]), atol=1e-6)
    for spec, answer in answers.items():
        assert asked[spec] in answer
        assert "\n" not in answer


def test_the_hub_is_asked_for_a_presets_id(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def from_hub(hub_id: str, revision: str | None, hint: str) -> Weights:
        asked.append((hub_id, revision))
        return Weights(tmp_path, None, "Hub")

    monkeypatch.setattr("fusion_classifier.encoders.weights._from_hub", from_hub)
    monkeypatch.setenv("FEC_MODELS", str(tmp_path))
    assert locate(parse_encoder("roberta-large")).source == "Hub"
    assert locate(parse_encoder("some/model?revision=v2")).source == "Hub"
    assert asked == [("FacebookAI/roberta-large", None), ("some/model", "v2")]
    shutil.copytree(bert_folder, tmp_path / "roberta-large")
    assert locate(parse_encoder("roberta-large")).source == "FEC_MODELS"
    assert len(asked) == 2
    with pytest.raises(WeightsError, match="not on this machine"):
        locate(EncoderConfig(name="a", model="some/model"), download=False)


def test_presets_say_where_their_weights_are(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bert_folder, tmp_path / "bert-large")
    monkeypatch.setenv("FEC_MODELS", str(tmp_path))
    described = {one["name"]: one for one in describe_presets()}
    assert described["bert-large"]["weights"] == f"FEC_MODELS: {tmp_path / 'bert-large'}"
    assert described["roberta-large"]["weights"] == "from the Hub when first used"
    assert described["llama2-7b-chat"]["layers"] == "-5,-4,-3,-2,-1"
    assert described["llama2-7b-chat"]["model"] == "meta-llama/Llama-2-7b-chat-hf"


def test_a_folder_without_a_tokenizer_is_named(bert_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(bert_folder / name, tmp_path / name)
    with pytest.raises(WeightsError, match="no tokenizer"):
        locate(parse_encoder(str(tmp_path)))


def test_what_is_downloaded_from_the_hub() -> None:
    """Weights, architecture, tokenizer files of any name, and the settings of sentence-transformers."""
    settings = [
        "modules.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "1_Pooling/config.json",
    ]
    names = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "bpe.codes",
        "vocab.txt",
    ]
    others = [
        "README.md",
        "pytorch_model.bin",
        "onnx/model.onnx",
        "openvino/model.xml",
        "train_script.py",
        ".gitattributes",
    ]
    assert hub_files([*names, *settings, *others]) == sorted([*names, *settings])
    for name in ("spm.model", "sentencepiece.model", "entity_vocab.json", "emoji.json"):
        assert name in hub_files(["config.json", name])
