"""The message about a missing extra."""

import pytest

from fusion_classifier.errors import UsageError
from fusion_classifier.support.extras import require


def test_a_missing_package_is_named_with_its_extra() -> None:
    require("fec serve", "serve", "json", "socket")
    with pytest.raises(UsageError, match=r"^fec serve needs no_such_package: pip install '.*\[serve\]'$"):
        require("fec serve", "serve", "json", "no_such_package")
