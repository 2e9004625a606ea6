"""Which source a result came from."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusion_classifier import version


class Installed:
    """A distribution as far as the commit needs it."""

    def __init__(self, described: dict[str, Any] | None) -> None:
        self.described = described

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.described is None else json.dumps(self.described)


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    version.source_commit.cache_clear()
    yield
    version.source_commit.cache_clear()


def commit_of(described: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch) -> str | None:
    monkeypatch.setattr(version, "distribution", lambda _: Installed(described))
    return version.source_commit()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_release_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit_of(None, monkeypatch) is None


def test_an_installation_from_git_has_pips_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    described: dict[str, Any] = {"url": "https://example.org/x.git", "vcs_info": {"commit_id": "abc123"}}
    assert commit_of(described, monkeypatch) == "abc123"
    del described["vcs_info"]["commit_id"]
    version.source_commit.cache_clear()
    assert commit_of(described, monkeypatch) is None


def test_a_working_copy_has_its_commit_and_dirty_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    described = {"url": folder.as_uri(), "dir_info": {"editable": True}}
    assert commit_of(described, monkeypatch) is None, "not a repository"
    git(folder, "init")
    (folder / "file").write_text("one", "utf-8")
    git(folder, "add", "file")
    git(folder, "commit", "-m", "one")
    git(folder, "tag", "v1")
    version.source_commit.cache_clear()
    head = git(folder, "rev-parse", "HEAD")
    assert commit_of(described, monkeypatch) == head
    (folder / "file").write_text("two", "utf-8")
    version.source_commit.cache_clear()
    assert commit_of(described, monkeypatch) == f"{head}-dirty"
