"""Trained classifiers on the Hub, and clear messages for the Hub's errors.

huggingface_hub is imported only to access the Hub: listing local models does not need it.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusion_classifier.errors import FecError, UsageError, reason
from fusion_classifier.support.attributes import changed
from fusion_classifier.version import __version__

# ruff: noqa: PLC0415

LIBRARY = "fusion-classifier"  # for the Hub's statistics, and in a model card
COMMIT_MESSAGE = "A classifier of LLM-FusionClassifier"
SECONDS = 10  # for the Hub's first answer
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a Hub id, `owner/model`."""
    return HUB_ID.fullmatch(name) is not None and not name.startswith(".")


def download_model(repo_id: str, files: Sequence[str], revision: str | None = None, **options: Any) -> Path:
    """Folder of a classifier from the Hub, downloaded unless it is in the cache.

    Args:
        repo_id: Hub id.
        files: Patterns of the files to download.
        revision: Branch, tag or commit. Default: main.
        options: Further arguments of `snapshot_download`, such as `token` and `cache_dir`.
    """
    from huggingface_hub import snapshot_download

    options |= {"allow_patterns": list(files), "library_name": LIBRARY, "library_version": __version__}
    with hub_errors(repo_id, revision):
        return Path(snapshot_download(repo_id, revision=revision, **options))


@contextmanager
def hub_asked_once(repo_id: str) -> Iterator[bool]:
    """Ask the Hub for a data set; if it can't be reached, nothing in the `with` block waits for it.

    Otherwise huggingface_hub would try six times for each file, which takes half a minute. Files that were
    downloaded before are still read.

    Yields:
        Whether the Hub has answered.
    """
    from huggingface_hub import HfApi, constants

    answered = True
    try:
        HfApi().dataset_info(repo_id, timeout=SECONDS)
    except Exception as error:  # an error of the HTTP library, or a rejection; the caller will get it, too
        answered = getattr(error, "response", None) is not None
    with changed(constants, HF_HUB_OFFLINE=constants.HF_HUB_OFFLINE or not answered):
        yield answered


@contextmanager
def hub_errors(
    repo_id: str,
    revision: str | None = None,
    *,
    kind: type[FecError] = FecError,
    uploading: bool = False,
    advice: str = "",
) -> Iterator[None]:
    """Convert errors of huggingface_hub into one-sentence messages.

    Args:
        repo_id: Requested Hub id.
        revision: Requested branch, tag or commit.
        kind: Class of the error.
        uploading: Whether this is an upload; otherwise a folder of that name was looked for first.
        advice: An alternative, appended to the message.
    """
    try:
        yield
    except FecError:
        raise
    except Exception as error:
        raise _explained(error, repo_id, revision, kind, uploading, f"; {advice}" if advice else "") from error


def _explained(
    error: Exception, repo_id: str, revision: str | None, kind: type[FecError], uploading: bool, advice: str
) -> FecError:
    from huggingface_hub import errors

    nothing_here = "" if uploading else "no folder here, and "
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"{repo_id}: {nothing_here}not a Hub id such as owner/model ({reason(error)}){advice}")
    if isinstance(error, errors.GatedRepoError):
        message = f"access is gated; accept the licence at https://huggingface.co/{repo_id} and run `hf auth login`"
    elif isinstance(error, errors.RevisionNotFoundError):
        message = f"no revision {revision!r} on the Hub"
    elif isinstance(error, errors.RepositoryNotFoundError):
        message = f"{nothing_here}no model on the Hub, or a private one (then run `hf auth login`)"
    elif status in (401, 403):
        message = (
            f"the Hub rejected the token (HTTP {status}); run `hf auth login` with a token that has the permission"
        )
    elif status is not None:
        message = f"the Hub returned HTTP {status}; try again later"
    elif isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError):
        message = f"can't be downloaded ({error.strerror})"
    else:
        nothing_here = "" if uploading else "no folder here, not downloaded before, and "
        message = f"{nothing_here}the Hub can't be reached; check the connection"
    return kind(f"{repo_id}: {message}{advice}")
