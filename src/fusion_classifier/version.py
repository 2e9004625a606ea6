"""The package's version, from its metadata, and the commit it was installed from."""

import json
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from urllib.parse import urlsplit
from urllib.request import url2pathname

DISTRIBUTION = "llm-fusion-classifier"

try:
    __version__ = version(DISTRIBUTION)
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"


@cache
def source_commit() -> str | None:
    """The git commit of the package's source, `-dirty` added where files differ from it; None for a release.

    pip records the commit of an installation from git, and the path of one from a folder
    (https://packaging.python.org/en/latest/specifications/direct-url/).
    """
    try:
        described = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    if "vcs_info" in described:
        commit = described["vcs_info"].get("commit_id")
        return commit if isinstance(commit, str) else None
    place = urlsplit(described.get("url", ""))
    if place.scheme != "file" or not described.get("dir_info", {}).get("editable"):
        return None
    try:
        said = subprocess.run(
            ["git", "-C", url2pathname(place.path), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):  # no git, or no repository
        return None
    return said.stdout.strip() or None
