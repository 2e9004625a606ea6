"""The HTTP interface, asked over the network as clients ask it."""

import copy
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok

from fusion_classifier import FusionClassifier
from fusion_classifier.config import TruncationSide
from fusion_classifier.errors import NonFiniteError
from fusion_classifier.serving import limits
from fusion_classifier.serving.model import Scores, ServedModel

Served = Callable[..., AbstractContextManager[str]]

ROOT = Path(__file__).parents[2]
SECRET = "nobody may read this"
KEY = "a-long-key"


@pytest.fixture(scope="module")
def classifier(saved_model: Path) -> FusionClassifier:
    """What the server serves, asked offline."""
    return FusionClassifier.from_pretrained(saved_model)


def expected(classifier: FusionClassifier, texts: Sequence[str]) -> list[dict[str, float]]:
    rows = classifier.predict_proba(texts)
    return [dict(zip(classifier.classes_.tolist(), map(float, row), strict=True)) for row in rows]


def check(answer: Any, scores: dict[str, float]) -> None:
    """An answer for a text: all labels, by falling score."""
    assert [set(one) for one in answer] == [{"score", "label"}] * len(scores)
    found = {one["label"]: one["score"] for one in answer}
    assert found == pytest.approx(scores, abs=1e-5)  # rounding differs with the batch's shape
    assert list(found.values()) == sorted(found.values(), reverse=True)


def predict(address: str, inputs: Any, **more: Any) -> requests.Response:
    return requests.post(f"{address}/predict", json={"inputs": inputs, **more}, timeout=60)


def until(happened: Callable[[], bool]) -> None:
    """Wait for something that comes by itself."""
    late = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < late
        time.sleep(0.01)


class Gated(ServedModel):
    """A real model that waits at a gate once it is warm, and fails at a text that says so."""

    gate: threading.Event | None = None

    def __init__(self, classifier: FusionClassifier) -> None:
        super().__init__(classifier, "gated")
        self.gate, self.begun = threading.Event(), threading.Event()
        self.texts: list[str] = []

    def run(self, texts: Sequence[str], side: TruncationSide, unknown: bool) -> list[Scores]:
        if self.gate is not None:
            self.texts += texts
            self.begun.set()
            assert self.gate.wait(60)
            if SECRET in texts:
                raise NonFiniteError(f"NaN in the feature of {SECRET!r}")
        return super().run(texts, side, unknown)


@pytest.fixture
def gated(saved_model: Path) -> Iterator[Gated]:
    model = Gated(FusionClassifier.from_pretrained(saved_model))
    yield model
    assert model.gate is not None
    model.gate.set()


# --- what TEI's clients rely on ----------------------------------------------------------------------------


def test_the_documented_example_gets_the_documented_answer(server: str, classifier: FusionClassifier) -> None:
    """curl 127.0.0.1:8080/predict -X POST -d '{"inputs":"I like you."}' -H 'Content-Type: application/json'"""
    (scores,) = expected(classifier, ["I like you."])
    body, headers = '{"inputs":"I like you."}', {"Content-Type": "application/json"}
    for answer in (
        requests.post(f"{server}/predict", data=body, headers=headers, timeout=60),
        httpx.post(f"{server}/predict", content=body, headers=headers, timeout=60),
    ):
        assert answer.status_code == 200
        check(answer.json(), scores)
        assert (answer.headers["x-compute-characters"], answer.headers["x-compute-tokens"]) == ("11", "13")


def test_a_batch_is_answered_by_a_list_of_lists(server: str, classifier: FusionClassifier) -> None:
    first, second = expected(classifier, ["we won", "it is dark"])
    both = predict(server, [["we won"], ["it is dark"]]).json()
    check(both[0], first)
    check(both[1], second)
    check(predict(server, ["we won"]).json(), first)
    (one,) = predict(server, [["we won"]]).json()
    check(one, first)


def test_raw_scores_are_logits(server: str, classifier: FusionClassifier) -> None:
    (row,) = classifier.predict_logits(["we won"]).tolist()
    scores = dict(zip(classifier.classes_.tolist(), row, strict=True))
    check(predict(server, "we won", raw_scores=True).json(), pytest.approx(scores, abs=1e-4).expected)


def test_a_text_of_no_class_is_told_if_asked(server: str, classifier: FusionClassifier) -> None:
    texts, rate = ["we won 3", "Q17: 1/2 + 3/4 = 5/4; see [9], [10] and {11}"], 0.3
    unknown = classifier.unknown_score(texts).tolist()
    assert [score > classifier.unknown_threshold(rate) for score in unknown] == [False, True]
    inputs = [[text] for text in texts]
    plain = predict(server, inputs).json()
    known, strange = predict(server, inputs, reject_unknown=True, false_alarm_rate=rate).json()
    assert [one.pop("unknown") for one in known + strange] == [False, False, False, True]
    assert [one.pop("unknown_score") for one in known + strange] == pytest.approx(
        [*[unknown[0]] * 3, unknown[1]], abs=1e-2
    )
    check(known, {one["label"]: one["score"] for one in plain[0]})
    assert strange == [{"label": None, "score": pytest.approx(plain[1][0]["score"], abs=1e-5)}]
    assert requests.get(f"{server}/info", timeout=60).json()["rejects_unknown"] is True
    for wrong in (0, 1, "much"):
        assert predict(server, "a", reject_unknown=True, false_alarm_rate=wrong).status_code == 422


def test_a_model_that_can_not_tell_says_so(classifier: FusionClassifier, served: Served) -> None:
    old = copy.copy(classifier)
    old.known_ = None
    with served(ServedModel(old, "old")) as address:
        assert requests.get(f"{address}/info", timeout=60).json()["rejects_unknown"] is False
        assert predict(address, "we won").status_code == 200
        refused = predict(address, "we won", reject_unknown=True)
    assert refused.status_code == 422
    assert "train the model again" in refused.json()["error"]


def test_concurrent_clients_get_the_offline_answers(server: str, classifier: FusionClassifier) -> None:
    texts = [f"{'abcdefgh'[i % 8] * (1 + i % 23)} {i}" for i in range(96)]
    scores = expected(classifier, texts)
    before = metrics_of(server).get("te_batch_next_size_count", 0)

    def ask(i: int) -> None:
        if i % 4:
            check(predict(server, texts[i]).json(), scores[i])
            return
        for answer, of_text in zip(predict(server, [[t] for t in texts[i : i + 4]]).json(), scores[i:], strict=False):
            check(answer, of_text)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(len(texts))))
    assert metrics_of(server)["te_batch_next_size_count"] - before < 96, "they were batched together"


def metrics_of(address: str) -> dict[str, float]:
    lines = requests.get(f"{address}/metrics", timeout=60).text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line and line[0] != "#"}


def test_a_request_takes_no_thread_of_the_pool(classifier: FusionClassifier, served: Served) -> None:
    before = set(threading.enumerate())
    with served(ServedModel(classifier, "moods")) as address:
        assert predict(address, "a text").ok
        names = [thread.name for thread in set(threading.enumerate()) - before]
    assert not [name for name in names if "AnyIO" in name]


def test_a_text_too_long_is_cut_where_it_is_asked_to_be(server: str, classifier: FusionClassifier) -> None:
    """The encoder reads 500 tokens, one a character, and adds two."""
    text = "we won " * 60 + "it is dark " * 60
    start, end = expected(classifier, [text[:498], text[-498:]])
    assert start != pytest.approx(end, abs=1e-4)
    refused = predict(server, text)
    assert (refused.status_code, refused.json()["error_type"]) == (422, "Tokenizer")
    assert "at most 500 tokens. Given: 1082" in refused.json()["error"]
    check(predict(server, text, truncate=True).json(), start)
    for side, scores in (("left", end), ("Left", end), ("right", start), ("Right", start)):
        check(predict(server, text, truncate=True, truncation_direction=side).json(), scores)


def test_several_labels_a_text_have_a_probability_each(bert_folder: Path, tmp_path: Path, served: Served) -> None:
    texts = [f"{word} {i}" for i in range(10) for word in ("we won", "he broke it", "it is dark")]
    labels = [["joy"], ["anger", "fear"], []] * 10
    several = FusionClassifier([f"{bert_folder}?dtype=float32"], head="linear", store=tmp_path, keep_features=False)
    several.fit(texts, labels)
    with served(ServedModel(several, "several")) as address:
        check(predict(address, "he broke it").json(), expected(several, ["he broke it"])[0])
        info = requests.get(f"{address}/info", timeout=60).json()
        assert info["multilabel"]
        assert set(info["thresholds"]) == {"joy", "anger", "fear"}


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"inputs": ""}, 400, "Empty"),
        ({"inputs": " \n"}, 400, "Empty"),
        ({"inputs": []}, 400, "Empty"),
        ({"inputs": [["a"], [""]]}, 400, "Empty"),
        ({"inputs": [["a", "b"]]}, 422, "Validation"),
        ({"inputs": ["a", "b"]}, 422, "Validation"),
        ({"inputs": [["a"], "b"]}, 422, "Validation"),
        ({"inputs": {"text": "a"}}, 422, "Validation"),
        ({"inputs": 1}, 422, "Validation"),
        ({}, 422, "Validation"),
        ({"inputs": "a", "truncation_direction": "up"}, 422, "Validation"),
        ({"inputs": "a", "raw_scores": "yes"}, 422, "Validation"),
        ({"inputs": "a \ud800"}, 422, "Validation"),
        ({"inputs": "a" * 100_001, "truncate": True}, 422, "Validation"),
        ({"inputs": "a" * 600}, 422, "Tokenizer"),
        ({"inputs": [["a"]] * 33}, 413, "Validation"),
        ("{", 422, "Validation"),
        ("[" * 100_000, 400, "Validation"),
        (b"\xff", 400, "Validation"),
    ],
)
def test_errors_have_teis_form_and_repeat_nothing(server: str, body: Any, status: int, kind: str) -> None:
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    answer = requests.post(f"{server}/predict", data=data, headers={"content-type": "application/json"}, timeout=60)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind), answer.text
    assert set(answer.json()) == {"error", "error_type"}
    assert len(answer.json()["error"]) < 200
    assert str(ROOT) not in answer.text


def test_unknown_paths_and_methods_have_that_form_too(server: str) -> None:
    missing, wrong = requests.get(f"{server}/nothing", timeout=60), requests.get(f"{server}/predict", timeout=60)
    assert (missing.status_code, missing.json()["error_type"]) == (404, "NotFound")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def raw(address: str, data: bytes) -> bytes:
    """What the server sends back until it closes the connection."""
    where = urlsplit(address)
    with socket.create_connection((where.hostname, where.port), timeout=60) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_a_body_too_large_is_refused_declared_or_not(served: Served, gated: Gated) -> None:
    with served(gated, payload_limit=2000) as address:
        body = json.dumps({"inputs": "a" * 3000}).encode()
        for data in (body, iter([body[:1500], body[1500:]])):  # an iterator is sent in chunks, without its length
            answer = requests.post(f"{address}/predict", data=data, timeout=60)
            assert (answer.status_code, answer.json()["error_type"]) == (413, "Validation")
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: "
        assert b" 413 " in raw(address, head + b"9" * 18 + b"\r\n\r\n" + b"a" * 9000).splitlines()[0]


def test_slow_bodies_and_endless_headers_are_given_up(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    assert b" 408 " in raw(server, b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").splitlines()[0]
    endless = b"GET /health HTTP/1.1\r\n" + b"x-a: " + b"a" * 100_000
    assert b" 400 " in raw(server, endless).splitlines()[0]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /health HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\n" + b"x-a: aaaaaaaa\r\n" * 4_000 + b"\r\n",
        b"GET /health?" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"A" * 40_000 + b" /health HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_long_headers_in_one_piece_are_refused(server: str, request_: bytes) -> None:
    answer = raw(server, request_)
    assert answer.split()[1] in (b"431", b"400"), "400 where it did not come in one piece"


def test_a_made_up_method_is_not_logged(server: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fusion_classifier.serving")
    assert requests.request("SECRET", f"{server}/predict", timeout=60).status_code == 405
    until(lambda: bool(caplog.records))
    assert [vars(record)["method"] for record in caplog.records if record.message == "request"] == ["other"]


def test_another_content_type_is_explained(server: str) -> None:
    as_curl_does = {"content-type": "application/x-www-form-urlencoded"}
    answer = requests.post(f"{server}/predict", data='{"inputs": "we won"}', headers=as_curl_does, timeout=60)
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["error"]


def test_slow_headers_lose_the_connection_idle_clients_keep_it(
    served: Served, saved_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEADER_SECONDS", 0.3)
    with served(ServedModel(FusionClassifier.from_pretrained(saved_model), "moods")) as address:
        assert raw(address, b"") == b"", "says nothing"
        assert raw(address, b"GET /health HTTP/1.1\r\nhost: x") == b"", "says a part"
        with requests.Session() as client:
            assert client.get(f"{address}/health", timeout=60).status_code == 200
            time.sleep(0.6)  # between requests a client may think
            assert client.get(f"{address}/health", timeout=60).status_code == 200
            host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as second:
            second.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert second.recv(65536).startswith(b"HTTP/1.1 200")
            second.sendall(b"GET /hea")  # a further request that does not go on
            while second.recv(65536):
                pass


# --- load, clients that go, models that fail ---------------------------------------------------------------


def test_overload_is_said_at_once_and_passes(served: Served, gated: Gated) -> None:
    assert gated.gate is not None
    with served(gated, max_concurrent_requests=3) as address, ThreadPoolExecutor(3) as pool:
        accepted = [pool.submit(predict, address, "we won")]
        assert gated.begun.wait(60)
        accepted += [pool.submit(predict, address, f"we won {i}") for i in range(2)]
        until(lambda: metrics_of(address)["te_queue_size"] == 2)
        refused = predict(address, "one too many")
        assert (refused.status_code, refused.json()) == (
            429,
            {"error": "Model is overloaded", "error_type": "Overloaded"},
        )
        assert requests.get(f"{address}/health", timeout=60).status_code == 200
        gated.gate.set()
        assert [one.result().status_code for one in accepted] == [200] * 3
        assert predict(address, "one too many").status_code == 200
        assert metrics_of(address)['te_request_failure_total{err="overloaded"}'] == 1


def test_a_client_that_goes_away_costs_nothing_more(served: Served, gated: Gated) -> None:
    assert gated.gate is not None
    with served(gated) as address, ThreadPoolExecutor(1) as pool:
        first = pool.submit(predict, address, "we won")
        assert gated.begun.wait(60)
        where = urlsplit(address)
        body = json.dumps({"inputs": [["gone"]] * 30}).encode()
        with socket.create_connection((where.hostname, where.port)) as connection:
            head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
            connection.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
            until(lambda: metrics_of(address)["te_queue_size"] == 30)
        until(lambda: 'te_request_failure_total{err="disconnected"}' in metrics_of(address))
        gated.gate.set()
        assert first.result().status_code == 200
        assert predict(address, "it is dark").status_code == 200
        assert gated.texts == ["we won", "it is dark"]


def test_a_text_that_breaks_the_model_fails_alone_unlogged(
    served: Served, gated: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    assert gated.gate is not None
    caplog.set_level(logging.DEBUG)
    with served(gated) as address, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(predict, address, "we won")]
        assert gated.begun.wait(60)
        asked += [pool.submit(predict, address, text) for text in (SECRET, "it is dark")]
        until(lambda: metrics_of(address)["te_queue_size"] == 2)
        gated.gate.set()
        won, broken, dark = (one.result() for one in asked)
    assert (won.status_code, dark.status_code) == (200, 200)
    assert (broken.status_code, broken.json()) == (424, {"error": "Inference failed", "error_type": "Backend"})
    ours = [record for record in caplog.records if record.name.startswith(("fusion_classifier", "uvicorn"))]
    assert "NonFiniteError" in [getattr(record, "error", None) for record in ours]
    assert not any(SECRET in str(vars(record)) or record.exc_info for record in ours)


# --- access ------------------------------------------------------------------------------------------------


def test_with_a_key_only_health_is_open(served: Served, gated: Gated) -> None:
    assert gated.gate is not None
    gated.gate.set()
    with served(gated, api_key=KEY) as address:
        assert requests.get(f"{address}/health", timeout=60).status_code == 200
        for path in ("/info", "/metrics", "/openapi.json"):
            refused = requests.get(address + path, timeout=60)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        for given_key, status in ((KEY, 200), ("a-long-kez", 401), ("", 401)):
            headers = {"Authorization": f"Bearer {given_key}"}
            answer = requests.post(f"{address}/predict", json={"inputs": "a"}, headers=headers, timeout=60)
            assert answer.status_code == status


def test_without_the_key_no_body_is_waited_for(served: Served, gated: Gated) -> None:
    with served(gated, api_key=KEY) as address:
        for key in ("", "authorization: Bearer a-wrong-key\r\n"):
            head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n{key}\r\n"
            assert b" 401 " in raw(address, head.encode()).splitlines()[0]


def test_the_description_asks_for_a_key_where_one_is_needed(server: str, served: Served, gated: Gated) -> None:
    assert "securitySchemes" not in requests.get(f"{server}/openapi.json", timeout=60).json()["components"]
    with served(gated, api_key=KEY) as address:
        headers = {"Authorization": f"bearer {KEY}"}  # RFC 7235: the scheme's case does not matter
        described = requests.get(f"{address}/openapi.json", headers=headers, timeout=60).json()
    assert described["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    keyed = {path for path, methods in described["paths"].items() if "security" in next(iter(methods.values()))}
    assert keyed == {"/predict", "/explain", "/info", "/metrics"}


def test_every_answer_has_security_headers(server: str) -> None:
    for path in ("/", "/health", "/nothing"):
        headers = requests.get(server + path, timeout=60).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_other_sites_may_ask_only_where_they_are_named(server: str, served: Served, gated: Gated) -> None:
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert (
        "access-control-allow-origin"
        not in requests.options(f"{server}/predict", headers=headers, timeout=60).headers
    )
    with served(gated, cors_allow_origin=("https://a.example",)) as address:
        answer = requests.options(f"{address}/predict", headers=headers, timeout=60)
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        other = requests.options(f"{address}/predict", headers=headers | {"Origin": "https://b.example"}, timeout=60)
        assert "access-control-allow-origin" not in other.headers


# --- what it says of itself --------------------------------------------------------------------------------


def test_info_names_labels_encoders_and_limits(server: str, bert_folder: Path) -> None:
    answer = requests.get(f"{server}/info", timeout=60)
    info = answer.json()
    assert info["id2label"] == info["model_type"]["classifier"]["id2label"] == {"0": "anger", "1": "fear", "2": "joy"}
    assert (info["model_id"], info["max_input_length"], info["max_client_batch_size"]) == ("moods", 500, 32)
    assert [encoder["name"] for encoder in info["encoders"]] == ["small-bert?max_length=500&dtype=float32"]
    assert str(bert_folder) not in answer.text


def test_metrics_have_teis_names(server: str) -> None:
    predict(server, "we won")
    predict(server, "")
    found = metrics_of(server)
    assert found['te_request_success_total{method="single"}'] >= 1
    assert found['te_request_failure_total{err="empty"}'] >= 1
    assert {
        *("te_queue_size", "te_request_duration_sum", "te_request_queue_duration_sum"),
        *("te_request_inference_duration_sum", "te_batch_next_tokens_sum"),
        *(f'te_request_stage_duration_sum{{stage="{stage}"}}' for stage in ("queue", "tokenize", "encode", "head")),
    } <= set(found)
    assert found["te_workers"] == 1
    assert found["te_connections"] >= 1


def test_connections_over_the_limit_are_closed_at_once(served: Served, gated: Gated) -> None:
    with served(gated, max_connections=2) as address, ExitStack() as opened:
        at = urlsplit(address)
        assert at.hostname is not None

        def healthy() -> socket.socket | None:
            """A new connection that was answered."""
            connection = opened.enter_context(socket.create_connection((at.hostname, at.port), timeout=60))
            with suppress(ConnectionError):
                connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
                if connection.recv(65536).startswith(b"HTTP/1.1 200"):
                    return connection
            return None

        first, second = healthy(), healthy()
        assert first is not None
        assert second is not None
        assert healthy() is None
        first.close()
        second.close()
        until(lambda: healthy() is not None)
        found = metrics_of(address)
        assert found["te_connections"] <= 2
        assert found["te_connections_refused_total"] >= 1


def test_the_description_in_docs_is_the_servers(served: Served, gated: Gated, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "docs/write_openapi.py"), str(tmp_path / "openapi.json")]
    subprocess.run(command, check=True, timeout=120)
    written = (tmp_path / "openapi.json").read_text("utf-8")
    assert (ROOT / "docs/openapi.json").read_text("utf-8") == written
    with served(gated, api_key=KEY) as address:
        headers = {"Authorization": f"Bearer {KEY}"}
        assert requests.get(f"{address}/openapi.json", headers=headers, timeout=60).json() == json.loads(written)


def test_generated_requests_get_documented_answers(server: str) -> None:
    schema = schemathesis.openapi.from_url(f"{server}/openapi.json")
    positive, negative = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    every = {one.path: one for one in (found.ok() for found in schema.get_all_operations() if isinstance(found, Ok))}
    assert set(every) >= {"/predict", "/info", "/health", "/metrics"}
    for path, operation in every.items():
        for mode in (positive, negative) if path == "/predict" else (positive,):

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
            def ask(case: Any) -> None:
                case.call_and_validate()

            ask()


@given(
    inputs=st.recursive(st.text() | st.none() | st.integers(), lambda one: st.lists(one, max_size=4), max_leaves=8)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_inputs_of_any_form_get_an_answer_or_an_error(server: str, inputs: Any) -> None:
    answer = requests.post(f"{server}/predict", json={"inputs": inputs, "truncate": True}, timeout=60)
    found = answer.json()
    if answer.status_code != 200:
        assert answer.status_code in (400, 422)
        assert set(found) == {"error", "error_type"}
        return
    rows = found if isinstance(inputs, list) and isinstance(inputs[0], list) else [found]
    assert len(rows) == (len(inputs) if rows is found else 1)
    for row in rows:
        assert np.isclose(sum(one["score"] for one in row), 1, atol=1e-4)
