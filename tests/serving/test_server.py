"""`fec serve` as a process: starting, ending, logs."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

TEXT = "a word that no log may hold"
MANY = 600


class Serving:
    """A server's process, its address, and the lines of its log."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "fusion_classifier", "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.address = found.group()
                break
        self.reading = threading.Thread(target=lambda: self.lines.extend(self.process.stderr or ()))
        self.reading.start()

    def ended(self) -> int:
        """Its exit code."""
        code = self.process.wait(timeout=60)
        self.reading.join(timeout=60)
        return code


@contextmanager
def serving(*arguments: object) -> Iterator[Serving]:
    one = Serving(*arguments)
    session = requests.Session()
    session.mount(
        "http://", requests.adapters.HTTPAdapter(max_retries=requests.adapters.Retry(total=8, backoff_factor=0.1))
    )
    try:
        assert session.get(f"{one.address}/health", timeout=60).status_code == 200
        yield one
    finally:
        one.process.kill()
        one.process.wait()


@pytest.mark.posix
@pytest.mark.slow
def test_sigterm_answers_accepted_requests_and_logs_no_text(saved_model: Path) -> None:
    # One text a batch: the request takes long enough to be at work when the signal comes.
    settings = ("--max-batch-tokens", 1, "--max-client-batch-size", MANY, "--json-output")
    with serving(saved_model, *settings) as server:
        answers: list[requests.Response] = []
        body = {"inputs": [[TEXT]] * MANY}
        client = threading.Thread(
            target=lambda: answers.append(requests.post(f"{server.address}/predict", json=body, timeout=100))
        )
        client.start()
        while not re.search(r"te_queue_size [1-9]", requests.get(f"{server.address}/metrics", timeout=60).text):
            assert not answers, "it was over before the signal could come: make MANY larger"
        server.process.send_signal(signal.SIGTERM)
        client.join(timeout=100)
        assert server.ended() == 0
    assert answers[0].status_code == 200
    assert len(answers[0].json()) == MANY
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.address}/health", timeout=5)
    log = [json.loads(line) for line in server.lines if line.startswith("{")]
    assert {"method": "POST", "route": "/predict", "status": 200, "texts": MANY} in [
        {key: line.get(key) for key in ("method", "route", "status", "texts")} for line in log
    ]
    assert TEXT not in "".join(server.lines)
    assert str(saved_model.parent) not in "".join(server.lines)
    assert "Traceback" not in "".join(server.lines)


@pytest.mark.posix
@pytest.mark.slow
def test_metrics_are_those_of_all_workers(saved_model: Path) -> None:
    with serving(saved_model, "--workers", 2) as server:
        for _ in range(8):  # each over a connection of its own
            assert requests.post(f"{server.address}/predict", json={"inputs": TEXT}, timeout=60).status_code == 200
        found = requests.get(f"{server.address}/metrics", timeout=60).text
        assert 'te_request_success_total{method="single"} 8.0' in found
        assert "te_workers 2.0" in found
        assert "te_queue_size 0.0" in found
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0
    assert "by 2 workers" in "".join(server.lines)
    assert "Traceback" not in "".join(server.lines)


def test_wrong_options_are_one_sentence(saved_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, code, says in (
            ((saved_model, "--port", port), 2, f"port.*127.0.0.1:{port}"),
            ((saved_model, "--api-key", "s3cret!"), 2, "api.key"),
        ):
            command = [sys.executable, "-m", "fusion_classifier", "serve", *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
            assert (done.returncode, done.stdout) == (code, "")
            assert re.search(says, done.stderr)
            assert "Traceback" not in done.stderr
            assert "s3cret!" not in done.stderr
