"""What the Hub's errors become; tests/classifier/test_hub.py asks a server."""

import errno

import pytest
from huggingface_hub import errors

from fusion_classifier.errors import FecError, UsageError, WeightsError
from fusion_classifier.support.hub import hub_errors


def explained(error: Exception, **settings: object) -> FecError:
    with pytest.raises(FecError) as caught, hub_errors("owner/name", "v2", **settings):  # type: ignore[arg-type]
        raise error
    assert caught.value.__cause__ is error
    assert str(caught.value).startswith("owner/name: ")
    return caught.value


def test_what_can_not_be_reached_tells_another_way() -> None:
    error = explained(errors.LocalEntryNotFoundError("not found"), kind=WeightsError, advice="take a local folder")
    assert isinstance(error, WeightsError)
    assert "not downloaded before" in str(error)
    assert str(error).endswith("; take a local folder")


def test_an_upload_says_nothing_of_folders_here() -> None:
    assert "folder" not in str(explained(errors.OfflineModeIsEnabled("offline"), uploading=True))


def test_a_name_that_is_no_hub_id_is_wrong_usage() -> None:
    assert isinstance(explained(errors.HFValidationError("a/b/c"), kind=WeightsError), UsageError)


def test_a_full_disk_is_not_called_a_lost_connection() -> None:
    error = str(explained(OSError(errno.ENOSPC, "No space left on device")))
    assert "No space left" in error
    assert "reached" not in error


def test_our_own_error_passes() -> None:
    with pytest.raises(UsageError, match=r"^ours$"), hub_errors("owner/name"):
        raise UsageError("ours")
