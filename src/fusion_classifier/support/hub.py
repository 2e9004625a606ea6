"""Trained classifiers on the Hub: download, and what is said when it fails."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of the client its version uses
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fusion_classifier.errors import FecError, UsageError, reason
from fusion_classifier.version import __version__

LIBRARY = "fusion-classifier"  # for the Hub's statistics, and in a card
COMMIT_MESSAGE = "A classifier of LLM-FusionClassifier"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MODEL_FILES = ["config.json", "model.safetensors", "projection-*.safetensors", "README.md"]


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a Hub id, `owner/model`."""
    return HUB_ID.fullmatch(name) is not None and not name.startswith(".")


def download_model(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """The model folder of a repository on the Hub, from the cache where it is there already.

    Raises:
        FecError: it can't be had; the message says why.
    """
    with explained(repo_id, revision):
        folder = snapshot_download(
            repo_id,
            revision=revision,
            token=token,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            force_download=force_download,
            local_files_only=local_files_only,
            allow_patterns=MODEL_FILES,
            library_name=LIBRARY,
            library_version=__version__,
        )
    return Path(folder)


@contextmanager
def explained(repo_id: str, revision: str | None = None, *, uploading: bool = False) -> Iterator[None]:
    """Errors of the Hub as one sentence.

    Raises:
        UsageError: no Hub id.
        FecError: everything else.
    """
    try:
        yield
    except HFValidationError as error:
        raise UsageError(f"{repo_id}: is no Hub id such as owner/model ({reason(error)})") from error
    except GatedRepoError as error:
        raise FecError(
            f"{repo_id}: is gated; accept its licence at https://huggingface.co/{repo_id} and run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise FecError(f"{repo_id}: has no revision {revision!r} on the Hub") from error
    except RepositoryNotFoundError as error:
        here = "" if uploading else "no folder here, and "
        raise FecError(
            f"{repo_id}: {here}no model on the Hub, or one that is not yours to see (then run `hf auth login`)"
        ) from error
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise FecError(
                f"{repo_id}: the Hub refuses the token (HTTP {status}); run `hf auth login` with one that may do this"
            ) from error
        if status is not None:
            raise FecError(f"{repo_id}: the Hub answers HTTP {status}; try again later") from error
        here = "" if uploading else "no folder here, not downloaded before, and "
        raise FecError(f"{repo_id}: {here}the Hub can't be reached; check the connection") from error
