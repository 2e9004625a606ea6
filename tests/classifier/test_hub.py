"""A trained classifier on the Hub and back, against a server on this machine that speaks as much of its API."""

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelHubMixin
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.card import model_card
from fusion_classifier.cli.main import main
from fusion_classifier.errors import FecError
from fusion_classifier.support.hub import is_hub_id

TEXTS = [f"{word} {i}" for i in range(12) for word in ("we won", "he broke it", "it is dark")]
LABELS = ["joy", "anger", "fear"] * 12
TOKEN = "hf_right"

Repos = dict[str, dict[str, Any]]


class _Hub(http.server.BaseHTTPRequestHandler):
    """Repositories in memory: {"owner/model": {"sha": …, "private": …, "files": {name: bytes}}}."""

    repos: Repos

    def _answer(self, code: int, body: object = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _repo(self) -> tuple[str, dict[str, Any]] | None:
        parts = self.path.partition("?")[0].removeprefix("/api/models").strip("/").split("/")
        name = "/".join(parts[:2])
        return (name, self.repos[name]) if name in self.repos else None

    def do_GET(self) -> None:
        path, found = self.path.partition("?")[0], self._repo()
        if "owner/gated" in path:
            self._answer(403, {}, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        elif path == "/api/whoami-v2":
            self._answer(200, {"name": "owner", "type": "user"})
        elif found is None:
            self._answer(404, {}, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif "/resolve/" in path:
            data = found[1]["files"].get(path.rpartition("/")[2])
            sha = str(found[1]["sha"])
            if data is None:
                self._answer(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
            else:
                self._answer(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=sha)
        elif path.endswith("/gone"):
            self._answer(404, {}, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id: gone")
        elif "/tree/" in path:
            files = found[1]["files"]
            self._answer(
                200,
                [{"type": "file", "path": n, "size": len(d), "oid": "0" * 40} for n, d in files.items()],
            )
        else:
            siblings = [{"rfilename": name} for name in found[1]["files"]]
            self._answer(200, {"id": found[0], "sha": found[1]["sha"], "siblings": siblings, "tags": []})

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
            return
        path, found = self.path.partition("?")[0], self._repo()
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
            private = asked.get("visibility") == "private"
            self.repos.setdefault(name, {"sha": "0" * 40, "files": {}, "private": private})
            self._answer(200, {"url": f"http://{self.headers['Host']}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            names = [one["path"] for one in json.loads(body)["files"]]
            self._answer(200, {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif "/commit/" in path:
            assert found is not None
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    data = base64.b64decode(line["value"]["content"])
                    found[1]["files"][line["value"]["path"]] = data
            sha = hashlib.sha1(body).hexdigest()
            found[1]["sha"] = sha
            url = f"http://{self.headers['Host']}/{found[0]}/commit/{sha}"
            self._answer(200, {"commitUrl": url, "commitOid": sha, "success": True})
        else:
            self._answer(404, {})

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def hub() -> Iterator[tuple[str, Repos]]:
    repos: Repos = {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"repos": repos}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", repos
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def fitted(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FusionClassifier, Path, Path]:
    folder = tmp_path_factory.mktemp("fitted")
    classifier = FusionClassifier(
        [f"{bert_folder}?dtype=float32"],
        keep_features=False,
        head="linear",
        store=folder / "store",
        training={"max_epochs": 20},
    ).fit(TEXTS, LABELS)
    classifier.save_pretrained(folder / "model")
    return classifier, folder / "model", bert_folder


def at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Turn huggingface-hub to a server; it has read its environment when it was imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def here(hub: tuple[str, Repos], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repos:
    """huggingface-hub of this process, turned to the server, with an empty cache; the repositories."""
    at(monkeypatch, hub[0])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub[1]


def fec(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    printed = capsys.readouterr()
    return int(stopped.value.code or 0), printed.out, printed.err


def test_what_is_pushed_comes_back_and_predicts_the_same_bits(
    here: Repos, fitted: tuple[FusionClassifier, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed, said = fec(capsys, "push", str(fitted[1]), "owner/moods", "--private")
    assert code == 0, said
    assert printed.strip().endswith(f"/owner/moods/commit/{here['owner/moods']['sha']}")
    assert here["owner/moods"]["private"] is True
    files = here["owner/moods"]["files"]
    assert set(files) - {".gitattributes"} == {"README.md", "config.json", "known.safetensors", "model.safetensors"}
    assert 'from_pretrained("owner/moods")' in files["README.md"].decode()

    code, printed, said = fec(capsys, "predict", "owner/moods", *TEXTS[:3], "--top-k", "3")
    # The encoder was a folder of this machine; where it is, nobody else is told, and has to say it.
    assert code == 1
    assert "was loaded from a folder on the machine" in said
    assert str(fitted[2].parent) not in "".join(data.decode("utf-8", "replace") for data in files.values())
    place = f"{json.loads(files['config.json'])['encoders'][0]['config']['name'].partition('?')[0]}={fitted[2]}"
    code, printed, said = fec(capsys, "predict", "owner/moods", *TEXTS[:3], "--top-k", "3", "--encoder", place)
    assert code == 0, said
    answers = map(json.loads, printed.splitlines())
    found = [{one[f"label_{k}"]: one[f"score_{k}"] for k in (1, 2, 3)} for one in answers]
    for row, answer in zip(fitted[0].predict_proba(TEXTS[:3]), found, strict=True):
        np.testing.assert_array_equal([answer[label] for label in fitted[0].classes_], row.astype(np.float64))
    loaded = FusionClassifier.from_pretrained("owner/moods", encoder_paths=dict([place.split("=")]))
    np.testing.assert_allclose(loaded.unknown_score(TEXTS[:3]), fitted[0].unknown_score(TEXTS[:3]), atol=1e-5)


def test_a_model_from_the_hub_works_without_it_afterwards(
    here: Repos, fitted: tuple[FusionClassifier, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fitted[0].push_to_hub("moods", commit_message="First").startswith("http")  # of the token's owner
    assert 'from_pretrained("owner/moods")' in here["owner/moods"]["files"]["README.md"].decode()
    places: dict[str, Any] = {"cache_dir": tmp_path / "other", "revision": "main"}
    FusionClassifier.from_pretrained("owner/moods", **places)
    at(monkeypatch, "http://127.0.0.1:9")
    for settings in (places, places | {"local_files_only": True}):
        loaded = FusionClassifier.from_pretrained("owner/moods", **settings)
        for name, tensor in fitted[0].head_.state_dict().items():
            assert tensor.equal(loaded.head_.state_dict()[name])
    with pytest.raises(FecError, match="not downloaded before, and the Hub can't be reached"):
        FusionClassifier.from_pretrained("owner/moods", local_files_only=True)


def test_saving_can_upload_and_a_hand_written_card_stays(
    here: Repos, fitted: tuple[FusionClassifier, Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "by-hand"
    fitted[0].save_pretrained(folder)
    (folder / "README.md").write_text("# Mine\n", "utf-8")
    address = FusionClassifier.from_pretrained(folder).save_pretrained(
        tmp_path / "moods-2", push_to_hub=True, repo_id="owner/other", private=True, branch="main"
    )
    assert address is not None
    assert here["owner/other"]["files"]["README.md"] == b"# Mine\n"


def test_what_the_hub_refuses_is_one_sentence(
    here: Repos,
    fitted: tuple[FusionClassifier, Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = str(fitted[1])
    fitted[0].push_to_hub("owner/moods")

    def refused(message: str, *arguments: str) -> None:
        code, _, said = fec(capsys, *arguments)
        assert code in (1, 2)
        assert message in said
        assert len(said.strip().splitlines()) == 1, said

    refused("not a Hub id", "push", model, "a/b/c")
    refused("no model on the Hub", "predict", "owner/nothing", "a text")
    refused("access is gated; accept the licence", "predict", "owner/gated", "a text")
    with pytest.raises(FecError, match="no revision 'gone'"):
        FusionClassifier.from_pretrained("owner/moods", revision="gone")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused("run `hf auth login`", "push", model, "owner/more")
    at(monkeypatch, "http://127.0.0.1:9")
    refused("the Hub can't be reached", "push", model, "owner/more")
    refused("the Hub can't be reached", "predict", "owner/nothing", "a text")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("the Hub can't be reached", "push", model, "owner/more")
    refused("the Hub can't be reached", "predict", "owner/nothing", "a text")
    assert set(here) == {"owner/moods"}


def test_the_mixins_contract_and_scikit_learns_live_together(fitted: tuple[FusionClassifier, Path, Path]) -> None:
    assert isinstance(fitted[0], ModelHubMixin)
    fresh = clone(fitted[0])
    assert vars(fresh).keys() == fresh.get_params(deep=False).keys()
    assert fresh.get_params() == fitted[0].get_params()
    assert "encoders" in repr(fresh)
    with pytest.raises(NotFittedError):
        fresh.push_to_hub("owner/moods")
    with pytest.raises(TypeError, match="colour"):
        FusionClassifier.from_pretrained(fitted[1], colour="red")  # type: ignore[call-arg]


def test_the_card_says_what_the_model_is(fitted: tuple[FusionClassifier, Path, Path], bert_folder: Path) -> None:
    card = (fitted[1] / "README.md").read_text("utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["library_name"] == "fusion-classifier"
    assert head["pipeline_tag"] == "text-classification"
    assert "anger, fear, joy" in card
    assert str(bert_folder.parent) not in card  # nobody else's business


@pytest.mark.posix
def test_the_card_tells_a_local_folder_from_a_hub_id(
    fitted: tuple[FusionClassifier, Path, Path], bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").symlink_to(bert_folder)
    config = fitted[0].config_
    [saved] = config.encoders

    def described(model: str, name: str) -> tuple[dict[str, Any], list[str]]:
        encoder = saved.model_copy(update={"config": saved.config.model_copy(update={"model": model, "name": name})})
        card = model_card(config.model_copy(update={"encoders": (encoder,)}))
        _, head, body = card.split("---\n", 2)
        return yaml.safe_load(head), next(line for line in body.splitlines() if "tokens |" in line).split(" | ")

    head, cells = described("models/mine", "mine?template=A {text}||B {text}")
    assert "base_model" not in head
    assert cells[:2] == ["| mine?template=A {text}\\|\\|B {text}", "a local model"]
    assert described("owner/model", "model")[0]["base_model"] == ["owner/model"]
    assert described("owner/model/q8.gguf", "model")[0]["base_model"] == ["owner/model"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("owner/model", True), ("../model", False), ("a/b/c", False), ("model", False), ("/a", False)],
)
def test_what_looks_like_a_hub_id(name: str, expected: bool) -> None:
    assert is_hub_id(name) is expected
